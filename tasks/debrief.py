"""What is shown of an answer once it is handed in: its criteria with their marks, and the passages these rest on."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tasks.marking.rubric import RubricCriterion, level_for
from tasks.models import Assessment, Mark


@dataclass(frozen=True, slots=True)
class Criterion:
    """A criterion with its number on the page, and its mark once there is one."""

    number: int
    rubric: RubricCriterion
    mark: Mark | None

    @property
    def level(self) -> str:
        """What an answer of the level looks like that was reached."""
        return level_for(self.rubric["levels"], self.mark.points)["description"] if self.mark is not None else ""

    @property
    def is_full(self) -> bool:
        return self.mark is not None and self.mark.points == self.rubric["points"]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of an answer, and the numbers of the criteria whose marks rest on it, separated by commas."""

    text: str
    numbers: str


def criteria_of(assessment: Assessment) -> list[Criterion]:
    marks = {mark.criterion: mark for mark in assessment.ordered_marks} if assessment.has_marks else {}
    return [
        Criterion(number, rubric, marks.get(rubric["slug"]))
        for number, rubric in enumerate(assessment.criteria, start=1)
    ]


def passages(answer: str, criteria: Sequence[Criterion]) -> list[Passage]:
    """Return an answer cut at the ends of its quotations, so that those may overlap."""
    spans = [
        (one.mark.start, one.mark.end, str(one.number))
        for one in criteria
        if one.mark is not None and one.mark.start is not None and one.mark.end is not None
    ]
    cuts = sorted({0, len(answer), *(place for start, end, _ in spans for place in (start, end))})
    return [
        Passage(
            answer[start:end],
            ", ".join(number for span_start, span_end, number in spans if span_start <= start and end <= span_end),
        )
        for start, end in pairwise(cuts)
    ]
