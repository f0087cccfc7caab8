"""Kinds of generations for tests without a server."""

import uuid
from typing import ClassVar

from django.db import OperationalError, connection

from accounts.models import RateCount
from generation.kinds import Kind
from generation.model_request import Message, ModelRequest
from generation.models import Generation

KINDS = {
    "fixed": "tests.kinds.FixedKind",
    "counted": "tests.kinds.CountedKind",
    "mistaken": "tests.kinds.MistakenKind",
    "unlucky": "tests.kinds.UnluckyKind",
    "choosy": "tests.kinds.ChoosyKind",
}


class FixedKind(Kind):
    """Shows the text that is named by the generation's subject."""

    texts: ClassVar[dict[str, str]] = {"short": "One two three.", "long": "word " * 600}

    def fallback(self, generation: Generation) -> str:
        return self.texts.get(generation.subject, "")


class CountedKind(FixedKind):
    """Leaves a row for each end that it is told of, with what it was told."""

    def on_end(self, generation: Generation) -> list[uuid.UUID]:
        assert connection.in_atomic_block
        stored = Generation.objects.get(pk=generation.pk)
        assert (stored.status, stored.text, stored.fault) == (generation.status, generation.text, generation.fault)
        RateCount.objects.create(key=f"{generation.pk} {generation.status}", free_at=generation.created_at)
        return []


class MistakenKind(FixedKind):
    """Makes a mistake wherever it can."""

    def request(self, generation: Generation) -> ModelRequest:
        raise ZeroDivisionError

    def on_end(self, generation: Generation) -> list[uuid.UUID]:
        RateCount.objects.create(key="half of what follows", free_at=generation.created_at)
        raise ZeroDivisionError


class UnluckyKind(FixedKind):
    """Finds the database busy when it is told of an end, the first time."""

    times: ClassVar[list[str]] = []

    def on_end(self, generation: Generation) -> list[uuid.UUID]:
        self.times.append("told")
        if len(self.times) == 1:
            raise OperationalError("database is locked")
        return []


class ChoosyKind(FixedKind):
    """Wants JSON, and not from everybody."""

    def request(self, generation: Generation) -> ModelRequest:
        return ModelRequest(
            [Message(role="user", content=generation.subject)],
            response_format={"type": "json_object"},
            temperature=None,
            max_tokens=77,
            not_models=["first"],
        )
