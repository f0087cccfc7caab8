"""What can be used of a mark that a model proposes. The model proposes, code decides."""

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.marking.instructing import Span
from tasks.marking.reading import RawMark
from tasks.marking.rubric import RubricCriterion

LONGEST_REASON = 1000


@dataclass(frozen=True, slots=True)
class CheckedMark:
    """A mark that can be used; `start` and `end` count characters of the answer, None without a true quotation."""

    criterion: RubricCriterion
    points: int
    quotation: str
    start: int | None
    end: int | None
    reason: str


class Unusable(Exception):
    """A mark that cannot be used; the message is for the model."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What can be used of all marks, by criterion, and what was wrong with the others."""

    marks: dict[str, CheckedMark]
    faults: list[str]
    # Behind which character of the text each is complete.
    ends: dict[str, int]

    def missing(self, rubric: Iterable[RubricCriterion]) -> list[RubricCriterion]:
        return [criterion for criterion in rubric if criterion["slug"] not in self.marks]


def check_all(
    raw_marks: Iterable[RawMark], rubric: Sequence[RubricCriterion], answer: str, *, instructing: Sequence[Span] = ()
) -> Checked:
    """Return what can be used. Of a criterion that is marked twice the first usable mark counts.

    Args:
        instructing: passages of the answer that speak to whoever marks it; a quotation of them earns nothing.
    """
    checked = Checked({}, [], {})
    known = {criterion["slug"]: criterion for criterion in rubric}
    for raw in raw_marks:
        criterion = known.get(raw.criterion)
        if criterion is None:
            checked.faults.append(f'"{raw.criterion[:60]}" is none of the criteria.')
        elif raw.criterion not in checked.marks:
            try:
                checked.marks[raw.criterion] = check(raw, criterion, answer, instructing=instructing)
                checked.ends[raw.criterion] = raw.end
            except Unusable as fault:
                checked.faults.append(f"{raw.criterion}: {fault}")
    return checked


def check(raw: RawMark, criterion: RubricCriterion, answer: str, *, instructing: Sequence[Span] = ()) -> CheckedMark:
    """Return a mark that can be used. Raises Unusable."""
    allowed = [level["points"] for level in criterion["levels"]]
    # Some models write numbers as text or as 2.0.
    points = next((one for one in allowed if str(raw.level).strip() in {str(one), f"{one}.0"}), None)
    if points is None or isinstance(raw.level, bool):
        raise Unusable(f"level must be one of {', '.join(map(str, allowed))}.")
    if not raw.reason:
        raise Unusable("reason is missing.")
    found = find_quotation(raw.quotation, answer)
    if raw.quotation and found is None:
        raise Unusable("quotation is not in the answer word for word; copy a passage of it, or leave it empty.")
    if found is not None and any(found.start < span.end and span.start < found.end for span in instructing):
        found = None
    if found is None:
        points = min(points, criterion["most_without_quotation"])
    return CheckedMark(
        criterion=criterion,
        points=points,
        quotation=answer[found.start : found.end] if found is not None else "",
        start=found.start if found is not None else None,
        end=found.end if found is not None else None,
        reason=raw.reason[:LONGEST_REASON],
    )


def find_quotation(quotation: str, answer: str) -> Span | None:
    """Return where in an answer a quotation stands; white space, signs that look alike, accents and case do not
    matter.
    """
    wanted, _ = _squeezed(quotation)
    wanted = wanted.strip(" .,;:!?\"'-")
    if not wanted:
        return None
    squeezed, places = _squeezed(answer)
    start = squeezed.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if _is_whole_words(squeezed, start, end):
            return Span(places[start], places[end - 1] + 1)
        start = squeezed.find(wanted, start + 1)
    return None


def _is_whole_words(text: str, start: int, end: int) -> bool:
    """Return whether a passage cuts no word: "no" is not quoted from "nothing"."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before.isalnum() and text[start].isalnum()) and not (after.isalnum() and text[end - 1].isalnum())


_ALIKE = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»‹›❝❞＂`´‘’‚‛′″'", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        "…": "...",
        "ـ": "",
    }
)
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


@functools.lru_cache(maxsize=128)  # an answer is looked at again for each mark, and by each of its readers
def _squeezed(text: str) -> tuple[str, list[int]]:
    """Return a text in which only words and signs count, and where in the text each of its characters stands."""
    characters: list[str] = []
    places: list[int] = []
    for place, original in enumerate(text):
        if _INVISIBLE.match(original):
            continue
        for character in unicodedata.normalize("NFKD", original).casefold().translate(_ALIKE):
            seen = " " if character.isspace() else character
            if (seen == " " and (not characters or characters[-1] == " ")) or unicodedata.combining(character):
                continue
            characters.append(seen)
            places.append(place)
    return "".join(characters), places
