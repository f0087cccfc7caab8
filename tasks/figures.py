"""The figures of a report, computed from the marks in force and never stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from tasks import state
from tasks.models import Assessment, Simulation, Task

# The drawing of a variable: its size, and how much of it is left free above and below the line.
WIDTH, HEIGHT, MARGIN = 240.0, 48.0, 6.0


@dataclass(slots=True)
class Tally:
    """Points of some criteria, and the most that they can give."""

    title: str
    points: int = 0
    most: int = 0

    @property
    def percent(self) -> int:
        return round(100 * self.points / self.most) if self.most else 0


@dataclass(frozen=True, slots=True)
class Line:
    """A variable of the state through a run: its value at the start and after each task that is marked."""

    value: state.Value
    values: list[tuple[int, int]]

    @property
    def points(self) -> str:
        """The line as the points of an SVG polyline."""
        low, high = self.value.variable.minimum, self.value.variable.maximum
        step = WIDTH / max(1, len(self.values) - 1)
        room = HEIGHT - 2 * MARGIN
        return " ".join(
            f"{place * step:.1f},{HEIGHT - MARGIN - room * (value - low) / ((high - low) or 1):.1f}"
            for place, (_, value) in enumerate(self.values)
        )


@dataclass(slots=True)
class Figures:
    total: Tally
    competencies: list[Tally]
    lines: list[Line]
    # How many answers have marks, of how many.
    marked: int
    answered: int
    marked_by: set[str] = field(default_factory=set)

    @property
    def is_partial(self) -> bool:
        return self.marked < self.answered


def of_simulation(simulation: Simulation) -> Figures:
    """Return the figures of a run so far, in a constant number of queries."""
    assessments = state.assessments_of(simulation)
    tallies = {one.slug: Tally(one.title) for one in simulation.profession.competencies.all()}
    total = Tally("")
    for _, assessment in assessments:
        _add(assessment, total, tallies)
    return Figures(
        total=total,
        competencies=[tally for tally in tallies.values() if tally.most],
        lines=_lines(state.compute(simulation.profession.variables.all(), assessments), assessments),
        marked=len(assessments),
        answered=sum(task.is_submitted for task in simulation.ordered_tasks),
        marked_by={assessment.marked_by for _, assessment in assessments},
    )


def _add(assessment: Assessment, total: Tally, tallies: dict[str, Tally]) -> None:
    criteria = {criterion["slug"]: criterion for criterion in assessment.criteria}
    for mark in assessment.ordered_marks:
        criterion = criteria[mark.criterion]
        for tally in (total, tallies.get(criterion["competency"])):
            if tally is not None:
                tally.points += mark.points
                tally.most += criterion["points"]


def _lines(now: state.State, assessments: Sequence[tuple[int, Assessment]]) -> list[Line]:
    lines = []
    for value in now.values:
        after = {change.order: change.value for change in value.changes}
        reached = value.variable.start
        values = [(0, reached)]
        for order, _ in assessments:
            reached = after.get(order, reached)
            values.append((order, reached))
        lines.append(Line(value, values))
    return lines


def time_used(task: Task) -> timedelta | None:
    """Return how long a learner had the whole text before handing in; None where the clock never ran."""
    if task.clock_started_at is None or not task.is_submitted:
        return None
    return max(timedelta(0), task.submission.created_at - task.clock_started_at)
