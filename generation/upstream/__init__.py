"""Where texts come from: a model behind the chat completions protocol, or an author.

An upstream is an asynchronous generator that yields pieces of text as they arrive and, last, one `CompletionEnd`. It
raises `UpstreamFault` when the text does not come whole; what it yielded until then is not a text.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from generation import finish_reasons


@dataclass(frozen=True, slots=True)
class Working:
    """A model is at work on what is not text: it reasons, or has said that it begins.

    `characters` are those of its reasoning, which is paid as text is.
    """

    characters: int = 0


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What was yielded so far was no text; the text begins behind this."""


@dataclass(frozen=True, slots=True)
class CompletionEnd:
    """How a text ended. Token counts are the provider's own, None where it told none that can be believed."""

    finish_reason: str
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    request_id: str = ""

    @property
    def was_cut(self) -> bool:
        """Whether the text came to its longest before it came to its end."""
        return self.finish_reason == finish_reasons.LENGTH

    def behind(self, first: "CompletionEnd") -> "CompletionEnd":
        """Return how a text ended whose beginning ended so and whose rest ended like this: paid are both."""
        return replace(
            self,
            prompt_tokens=_sum(first.prompt_tokens, self.prompt_tokens),
            completion_tokens=_sum(first.completion_tokens, self.completion_tokens),
            cached_tokens=_sum(first.cached_tokens, self.cached_tokens),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


Piece = str | Working | Withdrawn | CompletionEnd
Pieces = AsyncGenerator[Piece, None]
