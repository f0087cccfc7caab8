"""Where texts come from: a model behind the chat completions protocol, or an author.

An upstream is an asynchronous generator that yields pieces of text as they arrive and, last, one `CompletionEnd`. It
raises `UpstreamFault` when the text does not come whole; what it yielded until then is not a text.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompletionEnd:
    """How a text ended. Token counts are the provider's own, None where it told none."""

    finish_reason: str
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    request_id: str = ""


Pieces = AsyncGenerator[str | CompletionEnd, None]
