"""How tasks and reports look, in events and in plain answers."""

from generation.kinds import EventData
from generation.models import Generation
from tasks import state
from tasks.marking.checks import CheckedMark
from tasks.marking.rubric import RubricCriterion, level_for
from tasks.models import Assessment, Simulation, Task
from tasks.serializers import FinalReportSerializer, MetadataSerializer, TaskSerializer

# A request that found the simulation has read all of this a moment ago.
_comes_with_its_task = Task.generation.field.remote_field.is_cached


def task_of(generation: Generation) -> Task:
    """Return the task of a generation, its clock started if the text is there."""
    task = generation.task if _comes_with_its_task(generation) else _task_with_its_place(generation)
    task.start_clock()
    return task


def _task_with_its_place(generation: Generation) -> Task:
    related = Task.objects.select_related("brief", "generation", "simulation__profession")
    return related.prefetch_related("simulation__profession__briefs").get(generation=generation)


def _clock_of(generation: Generation) -> Task:
    """Return the task of a generation without what it is about, its clock started if the text is there."""
    task = Task.objects.get(generation=generation)
    task.generation = generation
    task.start_clock()
    return task


def final_report(simulation: Simulation) -> EventData:
    return {"completed": True, "simulation_id": simulation.pk, "final_report": FinalReportSerializer(simulation).data}


def metadata(generation: Generation) -> EventData:
    """Return what is known of a task before its text is there."""
    return MetadataSerializer(task_of(generation)).data


def done(generation: Generation) -> EventData:
    """Return what is told behind the complete text of a task."""
    task = _clock_of(generation)
    return {
        "full_text": generation.text,
        "task_id": task.pk,
        "completed": False,
        "generation_id": str(generation.pk),
        "source": generation.source,
        "authored_because": generation.authored_because,
        "was_cut": generation.was_cut,
        "seconds_left": task.seconds_left,
    }


def current(generation: Generation) -> EventData:
    """Return the answer to "what is my task now", for a complete text."""
    finished = _finished_by(generation)
    return TaskSerializer(task_of(generation)).data if finished is None else final_report(finished)


def submitted(generation: Generation) -> EventData:
    """Return the answer to a submission, for the complete text that follows it."""
    finished = _finished_by(generation)
    if finished is None:
        return {"completed": False, "next_task": TaskSerializer(task_of(generation)).data}
    return final_report(finished)


def held_events(generation: Generation) -> list[tuple[str, EventData]]:
    """Return what is told of a text that is fetched when its reader goes on; no clock is started by it."""
    simulation = Simulation.objects.filter(report=generation).first()
    if simulation is not None:
        return [("held", {"simulation_id": simulation.pk, "generation_id": str(generation.pk)})]
    task = _task_with_its_place(generation)
    told = {"task_id": task.pk, "generation_id": str(generation.pk)}
    return [("metadata", MetadataSerializer(task).data), ("held", told)]


def assessment_metadata(assessment: Assessment) -> EventData:
    """Return what is known of an assessment before any mark is there."""
    task = assessment.submission.task
    return {
        "task_id": task.pk,
        "simulation_id": task.simulation_id,
        "status": assessment.status,
        "most": assessment.most,
        "language": task.simulation.language,
        "criteria": [_criterion(criterion) for criterion in assessment.criteria],
        "generation_id": str(assessment.generation_id) if assessment.generation_id else None,
    }


def _criterion(criterion: RubricCriterion) -> EventData:
    return {"criterion": criterion["slug"], "title": criterion["title"], "most": criterion["points"]}


def checked_mark(mark: CheckedMark) -> EventData:
    """Return a mark as it is shown the moment it is complete."""
    return _mark(mark.criterion, mark.points, mark.quotation, mark.start, mark.end, mark.reason)


def _mark(
    criterion: RubricCriterion, points: int, quotation: str, start: int | None, end: int | None, reason: str
) -> EventData:
    level = level_for(criterion["levels"], points)
    return {
        **_criterion(criterion),
        "points": points,
        "level": level["description"],
        "quotation": quotation,
        "start": start,
        "end": end,
        "reason": reason,
    }


def _marks_of(assessment: Assessment) -> list[EventData]:
    criteria = {criterion["slug"]: criterion for criterion in assessment.criteria}
    return [
        _mark(criteria[mark.criterion], mark.points, mark.quotation, mark.start, mark.end, mark.reason)
        for mark in (assessment.ordered_marks if assessment.has_marks else [])
    ]


def assessment(assessment: Assessment) -> EventData:
    """Return an assessment with its marks and what they changed."""
    task = assessment.submission.task
    now = state.of_simulation(task.simulation, before=task.order + 1)
    shown = now.shown(of_order=task.order)
    return {
        "task_id": task.pk,
        "simulation_id": task.simulation_id,
        "status": assessment.status,
        "marked_by": assessment.marked_by,
        "because": assessment.because,
        "points": assessment.points,
        "most": assessment.most,
        "marks": _marks_of(assessment),
        "next_time": assessment.next_time,
        "state_changes": [one for one in shown if one["reason"]],
        "state": shown,
        "can_be_retried": assessment.can_be_retried,
        "generation_id": str(assessment.generation_id) if assessment.generation_id else None,
    }


def assessment_events(found: Assessment) -> list[tuple[str, EventData]]:
    """Return an assessment that no model writes as the events that one would have."""
    whole = assessment(found)
    marks = [("mark", one) for one in _marks_of(found)]
    return [("metadata", assessment_metadata(found)), *marks, ("assessed", whole)]


def is_task(generation: Generation) -> bool:
    return Task.objects.filter(generation=generation).exists()


def _finished_by(generation: Generation) -> Simulation | None:
    """Return the simulation that a text is the report of, None for a task."""
    return Simulation.objects.with_everything().filter(report=generation).first()
