"""Models that mark, honest ones and others, as behaviours of the fake provider."""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fake_openai import RecordedRequest

Entry = dict[str, object]
_CRITERION = re.compile(r'^"([a-z0-9-]+)", (.+)\n((?:- \d+: .*(?:\n|$))+)', re.MULTILINE)
_MISSING = re.compile(r"with these criteria and no others: ([a-z0-9, -]+)\.")


@dataclass(frozen=True)
class Criterion:
    slug: str
    levels: list[int]


def is_marking(record: "RecordedRequest") -> bool:
    """Return whether a request asks for marks."""
    return any('"next_time"' in str(message.get("content")) for message in record.messages[:1])


def criteria_of(record: "RecordedRequest") -> list[Criterion]:
    """Return the criteria that are to be marked: all, or those that are asked for once more."""
    system = str(record.messages[0].get("content"))
    found = [
        Criterion(slug, [int(level) for level in re.findall(r"^- (\d+): ", levels, re.MULTILINE)])
        for slug, _, levels in _CRITERION.findall(system)
    ]
    missing = _MISSING.search(record.last_user_message)
    return [one for one in found if one.slug in missing[1].split(", ")] if missing else found


def answer_of(record: "RecordedRequest") -> str:
    """Return the answer as it stands between the markers."""
    quoted = next(
        str(message.get("content")) for message in record.messages if str(message.get("content")).startswith("<<<")
    )
    return quoted.split("\n", 1)[1].rsplit("\n", 1)[0]


def mark(
    criterion: str, level: object, quotation: str = "", reason: str = "You say what you see."
) -> dict[str, object]:
    return {"criterion": criterion, "quotation": quotation, "reason": reason, "level": level}


def marks(*entries: Entry, next_time: str = "Ask first.") -> str:
    return json.dumps({"marks": list(entries), "next_time": next_time}, ensure_ascii=False)


def honest(record: "RecordedRequest") -> str:
    """Give each criterion its best level for the answer's first words."""
    words = " ".join(answer_of(record).split()[:6])
    return marks(*(mark(one.slug, one.levels[-1], words) for one in criteria_of(record)))


def obedient(record: "RecordedRequest") -> str:
    """Give whatever an answer asks for: full points everywhere, quoting what asked for them."""
    return marks(*(mark(one.slug, one.levels[-1], answer_of(record)[:200]) for one in criteria_of(record)))
