"""How many tokens a model reads at most, prompt and text together: as its server tells, or as it is seen to.

A server that is given a longer prompt mostly cuts its beginning off and says nothing. The instructions stand there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from generation.model_request import Message

# The report's prompt holds the whole run: that of a run of five tasks, in English.
LONGEST_PROMPT_TOKENS = 10_000
# No model's tokens are that long on average, in whatever language: a prompt that has fewer was not read to its end.
MOST_CHARACTERS_PER_TOKEN = 6
# Of a short prompt nothing can be said: what a server puts around it counts as well.
LEAST_CHARACTERS = 4000

# Paths behind the base URL, and at the root of a server of one's own: llama.cpp, LM Studio, Ollama.
OF_ALL = "/models"
OF_LOCAL = ("/props", "/api/v0/models", "/api/ps")

# In the entry of a model: vLLM and SGLang, LM Studio, OpenRouter and Ollama and others, Groq, Mistral.
_NAMES = ("max_model_len", "loaded_context_length", "context_length", "context_window", "max_context_length")


def needed_tokens() -> int:
    """Return how many tokens of context a whole run needs, its report included."""
    return LONGEST_PROMPT_TOKENS + settings.LLM_MAX_TOKENS


def sentence(tokens: int) -> str | Promise:
    """Return a context in words, with what to do where it is too small."""
    if tokens >= needed_tokens():
        return format_lazy(_("context of {tokens} tokens"), tokens=tokens)
    text = _(
        "context of {tokens} tokens, too small for reports, which need about {needed}: their beginning would be cut "
        "off. Give it more (Ollama: OLLAMA_CONTEXT_LENGTH=16384, llama.cpp: -c 16384) or lower LLM_MAX_TOKENS"
    )
    return format_lazy(text, tokens=tokens, needed=needed_tokens())


def was_prompt_cut(messages: Sequence[Message], prompt_tokens: int | None) -> bool:
    """Return whether a server counted fewer tokens than the prompt it was sent can have."""
    characters = sum(len(message["content"]) for message in messages)
    return (
        prompt_tokens is not None
        and characters >= LEAST_CHARACTERS
        and prompt_tokens * MOST_CHARACTERS_PER_TOKEN < characters
    )


def told(answer: object, model: str) -> int | None:
    """Return the context that a server's answer tells for a model, None where it tells none."""
    sizes = list(_sizes(answer, model))
    return min(sizes) if sizes else None


def _sizes(answer: object, model: str) -> Iterator[int]:
    match answer:
        case {"default_generation_settings": {"n_ctx": int(size)}}:  # llama.cpp, of each of its slots
            yield size
        case {"data": list(entries)} | {"models": list(entries)}:
            for entry in entries:
                if isinstance(entry, Mapping) and (_is_named(entry, model) or len(entries) == 1):
                    yield from _sizes_in(entry)


def _is_named(entry: Mapping[str, Any], model: str) -> bool:
    return not {model, f"{model}:latest"}.isdisjoint(str(entry.get(key)) for key in ("id", "name", "model"))


def _sizes_in(entry: Mapping[str, Any]) -> Iterator[int]:
    meta = entry.get("meta")
    told = [meta.get("n_ctx")] if isinstance(meta, Mapping) else []  # llama.cpp
    first = next((entry[name] for name in _NAMES if entry.get(name)), None)
    yield from (size for size in (*told, first) if type(size) is int and size > 0)
