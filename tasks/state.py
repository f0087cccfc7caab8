"""The state of a run: numbers that a profession declares and that the marks in force move.

Nothing of it is stored: it is computed from the marks, in the order of the tasks, and clamped at each step. So a mark
that a person changes changes it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from professions.levels import Level
from professions.models import StateVariable
from tasks.marking.rubric import level_for
from tasks.models import Assessment, Simulation
from tasks.models.assessment import WITH_MARKS


@dataclass(frozen=True, slots=True)
class Change:
    """What one answer did to a variable. `amount` is what was left of the effects after clamping."""

    order: int
    amount: int
    value: int
    reasons: list[str]


@dataclass(slots=True)
class Value:
    """A variable, its value now, and how it came to it."""

    variable: StateVariable
    value: int
    changes: list[Change] = field(default_factory=list)

    @property
    def last(self) -> Change | None:
        return self.changes[-1] if self.changes else None

    def shown(self, *, of_order: int | None = None) -> dict[str, object]:
        """Return it as the API shows it; `change` is that of the task with this order, or of the last one."""
        change = next((one for one in self.changes if one.order == of_order), None) if of_order else self.last
        return {
            "key": self.variable.slug,
            "title": self.variable.title,
            "value": self.value,
            "minimum": self.variable.minimum,
            "maximum": self.variable.maximum,
            "unit": self.variable.unit,
            "good": self.variable.good,
            "shown_as": self.variable.shown_as,
            "change": change.amount if change else 0,
            "reason": "; ".join(change.reasons) if change else "",
        }


@dataclass(slots=True)
class State:
    values: list[Value]
    # Facts that the task behind the one with this order takes up.
    notes: dict[int, list[str]] = field(default_factory=dict)

    def shown(self, *, of_order: int | None = None) -> list[dict[str, object]]:
        return [value.shown(of_order=of_order) for value in self.values]

    def facts(self) -> list[str]:
        """Return the state as plain sentences for a model."""
        return [_fact(value) for value in self.values]


def of_simulation(simulation: Simulation, *, before: int | None = None) -> State:
    """Return the state of a run by the marks in force: of all its tasks, or of those before the one with an order."""
    variables = list(simulation.profession.variables.all())
    return compute(variables, assessments_of(simulation, before=before) if variables else [])


def assessments_of(simulation: Simulation, *, before: int | None = None) -> list[tuple[int, Assessment]]:
    """Return the assessments in force that have marks, each with the order of its task, in that order."""
    own = Assessment.objects.in_force().filter(submission__task__simulation=simulation, status__in=WITH_MARKS)
    if before is not None:
        own = own.filter(submission__task__order__lt=before)
    found = own.with_marks().select_related("submission__task").order_by("submission__task__order")
    return [(one.submission.task.order, one) for one in found]


def compute(variables: Iterable[StateVariable], assessments: Sequence[tuple[int, Assessment]]) -> State:
    """Return the state after these assessments, each with the order of its task, in that order."""
    state = State([Value(variable, variable.start) for variable in variables])
    for order, assessment in assessments:
        levels = [level_for(*_of(mark.criterion, mark.points, assessment)) for mark in assessment.ordered_marks]
        state.notes[order] = [level["note"] for level in levels if level.get("note")]
        for value in state.values:
            _move(value, order, levels)
    return state


def _of(slug: str, points: int, assessment: Assessment) -> tuple[Sequence[Level], int]:
    return next(criterion["levels"] for criterion in assessment.criteria if criterion["slug"] == slug), points


def _move(value: Value, order: int, levels: Sequence[Level]) -> None:
    before, reasons = value.value, []
    for level in levels:
        effect = level.get("effects", {}).get(value.variable.slug, 0)
        if not effect:
            continue
        value.value = max(value.variable.minimum, min(value.variable.maximum, value.value + effect))
        reasons.append(level.get("because", ""))
    if reasons:
        value.changes.append(Change(order, value.value - before, value.value, reasons))


def _fact(value: Value) -> str:
    unit = f" {value.variable.unit}" if value.variable.unit else ""
    fact = f"{value.variable.title}: {value.value}{unit}, of {value.variable.minimum} to {value.variable.maximum}"
    if value.last is None or not value.last.amount:
        return f"{fact}."
    return f"{fact}; it was {value.value - value.last.amount}: {'; '.join(value.last.reasons)}."
