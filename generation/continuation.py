"""Texts that were cut at their longest: how a model is asked to bring one to its end, and what of its answer is kept.

The model is asked to begin with the last words of what is there. So it can be seen, by code, whether its answer joins:
what does not begin with these words, or repeats more than what is there, is not kept.
"""

import re
from dataclasses import replace

from generation.model_request import Message, ModelRequest

LAST_WORDS_CHARACTERS = 120

_WISH = """\
Your text was cut off before its end. Bring it to its end, as shortly as it allows. Begin your answer with these last
words of it, exactly as they are, and go straight on behind them. Say nothing about this request.

{last_words}"""


def request_for_rest(request: ModelRequest, text: str) -> ModelRequest:
    """Return how to ask whoever wrote a text that was cut to bring it to its end."""
    more: list[Message] = [
        Message(role="assistant", content=text),
        Message(role="user", content=_WISH.format(last_words=_last_words(text))),
    ]
    return replace(request, messages=[*request.messages, *more])


def rest_of(text: str, answer: str) -> str:
    """Return what an answer adds to a text that was cut, empty where it does not join."""
    words = _last_words(text).split()
    found = re.search(r"\s+".join(map(re.escape, words)), answer) if words else None
    if found is None or not _squeezed(text).endswith(_squeezed(answer[: found.end()])):
        return ""
    rest = answer[found.end() :]
    # A text that was cut behind white space holds it already.
    return rest.lstrip() if text[-1:].isspace() else rest


def _last_words(text: str) -> str:
    """Return the last words of a text, whole but for the very last, which may have been cut."""
    end = text[-LAST_WORDS_CHARACTERS:]
    _, _, words = end.partition(" ") if len(text) > len(end) else ("", "", end)
    return (words or end).strip()


def _squeezed(text: str) -> str:
    return " ".join(text.split())
