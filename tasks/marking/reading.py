"""Reading the marks that a model writes, each as soon as it is complete, whatever stands around them.

Models wrap JSON in fences and sentences, and may be asked a second time for what could not be used; so the objects are
looked for one by one. No object can begin inside a string of JSON: its keys would need quotation marks, which are
escaped there.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

# More than any rubric has; nobody is to be kept busy by a text of nothing but braces.
MOST_OBJECTS = 500
_DECODER = json.JSONDecoder()
# What no database and no page takes.
_UNUSABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RawMark:
    """What a model wrote about a criterion, and behind which character of its text that is complete."""

    end: int
    criterion: str
    quotation: str
    reason: str
    level: object


@dataclass(slots=True)
class Reading:
    marks: list[RawMark] = field(default_factory=list)
    next_time: str = ""


def read(text: str) -> Reading:
    """Return what is complete of a text so far."""
    reading = Reading()
    for found, end in _objects(text):
        if "criterion" in found:
            reading.marks.append(_raw_mark(found, end))
        else:
            _take_next_time(reading, found)
    return reading


def _objects(text: str) -> Iterator[tuple[Mapping[str, object], int]]:
    """Yield each complete object and where it ends; one that holds marks, and then each of these."""
    place = text.find("{")
    for _ in range(MOST_OBJECTS):
        if place < 0:
            return
        behind = place + 1
        try:
            found, end = _DECODER.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError):
            pass  # not complete, or no object; one inside it may be
        else:
            yield found, end
            behind = end if "criterion" in found else behind
        place = text.find("{", behind)


def _take_next_time(reading: Reading, found: Mapping[str, object]) -> None:
    said = found.get("next_time")
    if isinstance(said, str) and said.strip():
        reading.next_time = clean(said)


def _raw_mark(entry: Mapping[str, object], end: int) -> RawMark:
    words = [entry.get(name) for name in ("criterion", "quotation", "reason")]
    criterion, quotation, reason = (clean(one) if isinstance(one, str) else "" for one in words)
    return RawMark(end, criterion, quotation, reason, entry.get("level"))


def clean(said: str) -> str:
    return _UNUSABLE.sub("", said).strip()
