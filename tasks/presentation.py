"""How tasks and reports look, in events and in plain answers."""

from generation.kinds import EventData
from generation.models import Generation
from tasks.models import Simulation, Task
from tasks.serializers import FinalReportSerializer, MetadataSerializer, TaskSerializer

# A request that found the simulation has read all of this a moment ago.
_comes_with_its_task = Task.generation.field.remote_field.is_cached


def task_of(generation: Generation) -> Task:
    """Return the task of a generation, its clock started if the text is there."""
    if _comes_with_its_task(generation):
        task = generation.task
    else:
        task = (
            Task.objects.select_related("brief", "generation", "simulation__profession")
            .prefetch_related("simulation__profession__briefs")
            .get(generation=generation)
        )
    task.start_clock()
    return task


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


def is_task(generation: Generation) -> bool:
    return Task.objects.filter(generation=generation).exists()


def _finished_by(generation: Generation) -> Simulation | None:
    """Return the simulation that a text is the report of, None for a task."""
    return Simulation.objects.with_everything().filter(report=generation).first()
