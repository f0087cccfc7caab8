"""Attempts while they last."""

import time

from django.utils import timezone

from generation import budget
from generation.models import Attempt, Generation
from generation.upstream import Ending, Pieces, chat, prices
from generation.upstream.candidates import Choice
from generation.upstream.faults import UpstreamFault


class OngoingAttempt:
    """One candidate being asked for one text. Its row is written when it is over."""

    def __init__(self, choice: Choice, generation: Generation, *, number: int, is_hedge: bool) -> None:
        self.choice = choice
        self.generation = generation
        self.number = number
        self.is_hedge = is_hedge
        self.characters = 0
        self.pieces: Pieces = chat.stream(choice.candidate, generation.messages)
        self._started_at = timezone.now()
        self._started = time.monotonic()
        self._first_token_seconds: float | None = None

    def spoke(self, piece: str | Ending) -> None:
        """Note the first piece."""
        self._first_token_seconds = time.monotonic() - self._started
        self.wrote(piece)

    def wrote(self, piece: str | Ending) -> None:
        if isinstance(piece, str):
            self.characters += len(piece)

    def completed(self, ending: Ending) -> Attempt:
        attempt = self.ended(Attempt.Outcome.COMPLETED)
        attempt.http_status, attempt.request_id = 200, ending.request_id
        if ending.prompt_tokens is not None and ending.completion_tokens is not None:
            attempt.prompt_tokens, attempt.completion_tokens = ending.prompt_tokens, ending.completion_tokens
            attempt.cached_tokens, attempt.tokens_estimated = ending.cached_tokens, False
        return _priced(attempt)

    def failed(self, fault: UpstreamFault) -> Attempt:
        attempt = self.ended(Attempt.Outcome.FAILED)
        attempt.fault, attempt.detail = fault.code, str(fault)
        attempt.http_status, attempt.request_id = fault.status, fault.request_id
        if fault.was_refused:
            attempt.prompt_tokens = attempt.completion_tokens = attempt.cost = None
            attempt.tokens_estimated = False
        return attempt

    def ended(self, outcome: Attempt.Outcome) -> Attempt:
        """Give the attempt with its tokens estimated: the provider tells them only at a text's end."""
        return _priced(
            Attempt(
                generation=self.generation,
                epoch=self.generation.epoch,
                number=self.number,
                candidate=str(self.choice.candidate),
                provider=self.choice.candidate.provider,
                model=self.choice.candidate.model,
                is_hedge=self.is_hedge,
                outcome=outcome,
                started_at=self._started_at,
                first_token_seconds=self._first_token_seconds,
                seconds=time.monotonic() - self._started,
                prompt_tokens=budget.estimated_prompt_tokens(self.generation.messages),
                completion_tokens=budget.estimated_tokens(self.characters),
                tokens_estimated=True,
            )
        )


def _priced(attempt: Attempt) -> Attempt:
    attempt.cost = prices.cost(
        attempt.model,
        prompt=attempt.prompt_tokens or 0,
        cached=attempt.cached_tokens or 0,
        completion=attempt.completion_tokens or 0,
    )
    return attempt
