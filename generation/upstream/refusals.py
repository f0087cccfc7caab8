"""What a provider says instead of a text, in whichever form it says it.

Error bodies are objects, lists, plain sentences or pages; the same fault has another status and other words at every
server. They are read here, and faults.py says what follows from each.
"""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

# Enough for every reason seen; a provider may send the whole request back.
MOST_CHARACTERS = 2000

_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was said, as far as it was said: each field is empty where it was not."""

    message: str = ""
    code: str = ""
    type: str = ""
    param: str = ""
    # The status that the body speaks of, which counts where it came with 200.
    status: int | None = None
    is_page: bool = False

    @property
    def words(self) -> str:
        return f"{self.code} {self.type} {self.message}".lower()


def read(body: object) -> Refusal:
    """Return what an error body says: the text of it, or what JSON was decoded to."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str):
        return _read_text(body.strip())
    if isinstance(body, list):  # Google wraps its errors in a list
        return read(body[0]) if body and isinstance(body[0], Mapping) else Refusal()
    if isinstance(body, Mapping):
        return _read_object(body)
    return Refusal()


def says_error(body: Mapping[str, object]) -> bool:
    """Whether an object that should be part of a completion is an error instead."""
    if body.get("error") or body.get("object") == "error" or body.get("type") == "error":
        return True
    return "choices" not in body and "usage" not in body and any(body.get(name) for name in _MESSAGES)


def _read_text(text: str) -> Refusal:
    if text[:1] in {"{", "["}:
        try:
            return read(json.loads(text))
        except (ValueError, RecursionError):
            pass
    if text.startswith("<"):
        title = _TITLE.search(text)
        shown = title[1] if title else _TAG.sub(" ", text[: 10 * MOST_CHARACTERS])
        return Refusal(message=_short(html.unescape(" ".join(shown.split()))), is_page=True)
    return Refusal(message=_short(text))


_MESSAGES = ("message", "detail", "error_msg", "msg", "reason", "errors")


def _read_object(body: Mapping[str, object]) -> Refusal:
    error = body.get("error")
    if isinstance(error, Mapping):
        inner = _with(error, message=": ".join(filter(None, (_first_message(error), _passed_on(error)))))
        return inner if inner.message or inner.code else Refusal(message=_short(json.dumps(error)))
    if isinstance(error, str) and error:
        # Some say what happened beside it.
        return _with(body, message=_first_message(body) or error)
    return _with(body, message=_first_message(body))


def _with(body: Mapping[str, object], *, message: str) -> Refusal:
    code, param = body.get("code"), body.get("param")
    numbers = [_status(body.get(name)) for name in ("code", "status", "status_code")]
    kinds = [body.get(name) for name in ("type", "error_type", "status")]
    return Refusal(
        message=_short(message),
        code="" if code is None else _short(str(code)),
        type=next((_short(kind) for kind in kinds if isinstance(kind, str)), ""),
        param=_short(str(param)) if param else _place(body.get("detail")),
        status=next(filter(None, numbers), None),
    )


def _passed_on(error: Mapping[str, object]) -> str:
    """Return what the provider behind a gateway said."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    return read(raw).message if isinstance(raw, str | Mapping) else ""


def _first_message(body: Mapping[str, object]) -> str:
    for name in _MESSAGES:
        if text := _text_of(body.get(name)):
            return text
    return ""


def _text_of(value: object) -> str:
    """Return a sentence of whatever stands where one is expected: validation errors come as lists of objects."""
    match value:
        case str():
            return value
        case list():
            return "; ".join(filter(None, (_text_of(one) for one in value[:5])))
        case Mapping():
            place = ".".join(str(part) for part in value["loc"]) if isinstance(value.get("loc"), list) else ""
            text = _first_message(value)
            return f"{place}: {text}" if place and text else text
        case _:
            return ""


def _place(detail: object) -> str:
    """Return the parameter that a validation error is about."""
    match detail:
        case [{"loc": [*_, str() as name]}, *_]:
            return _short(name)
        case _:
            return ""


def _status(value: object) -> int | None:
    number = int(value) if isinstance(value, str) and re.fullmatch(r"\d{3}", value) else value
    return number if isinstance(number, int) and 400 <= number < 600 else None


def _short(text: str) -> str:
    return text[:MOST_CHARACTERS]
