"""How many tokens a provider says it used, as far as that can be believed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from generation.model_request import ModelRequest

# Templates and instructions of the provider's own come to a prompt.
MOST_TOKENS_AROUND_A_PROMPT = 4000
# Reasoning that is not shown is paid as well, and not every server counts it against the limit.
MOST_TIMES_THE_LIMIT = 20


class Usage(NamedTuple):
    """Numbers of tokens; None where a provider told none that can be believed."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None

    @classmethod
    def read(cls, said: object, request: ModelRequest, *, characters: int) -> "Usage":
        """Read the usage of an answer that has so many characters, its reasoning included.

        No token is shorter than a byte, and there is none without a text.
        """
        if not isinstance(said, Mapping):
            return cls(None, None, None)
        asked = sum(len(message["content"].encode()) for message in request.messages) + MOST_TOKENS_AROUND_A_PROMPT
        prompt = _count(said, "prompt_tokens", most=asked)
        completion = _count(
            said, "completion_tokens", most=max(request.max_tokens * MOST_TIMES_THE_LIMIT, 4 * characters)
        )
        details: Any = said.get("prompt_tokens_details")
        cached = _count(details, "cached_tokens", most=prompt or 0, least=0) if isinstance(details, Mapping) else None
        return cls(prompt, completion, cached)


def _count(said: Mapping[str, Any], name: str, *, most: int, least: int = 1) -> int | None:
    value = said.get(name)
    return value if type(value) is int and least <= value <= most else None
