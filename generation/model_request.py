"""How a model is asked for a text: the conversation, and what may and may not come of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from django.conf import settings


class Message(TypedDict):
    """One message of a conversation, as chat completions take it."""

    role: str
    content: str


class Options(TypedDict):
    """What is stored of a request beside its messages and its model."""

    response_format: Mapping[str, object] | None
    temperature: float | None
    max_tokens: int
    not_models: list[str]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request to whichever model may write a text.

    Args:
        response_format: as chat completions take it; None for prose.
        temperature: None leaves it out, for models that refuse it.
        max_tokens: the longest completion.
        only_model: no other may write it; empty for any.
        not_models: these may not.
    """

    messages: Sequence[Message]
    response_format: Mapping[str, object] | None = None
    temperature: float | None = field(default_factory=lambda: settings.LLM_TEMPERATURE)
    max_tokens: int = field(default_factory=lambda: settings.LLM_MAX_TOKENS)
    only_model: str = ""
    not_models: Sequence[str] = ()

    @property
    def options(self) -> Options:
        return Options(
            response_format=self.response_format,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            not_models=list(self.not_models),
        )
