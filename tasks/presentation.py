"""How tasks and reports look as events and as plain answers."""

from generation.models import Generation
from generation.streams import EventData
from tasks.models import Simulation, Task
from tasks.running import REPORT
from tasks.serializers import FinalReportSerializer, MetadataSerializer, TaskSerializer

# A request that found the simulation has read all of this a moment ago.
_comes_with_its_task = Task.generation.field.remote_field.is_cached


def task_of(generation: Generation) -> Task:
    """Give the task of a generation, its clock started if the text is there."""
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
    """Give the task of a generation without what it is about, its clock started if the text is there."""
    task = Task.objects.get(generation=generation)
    task.generation = generation
    task.start_clock()
    return task


def final_report(generation: Generation) -> EventData:
    simulation = Simulation.objects.with_everything().get(report=generation)
    return {"completed": True, "simulation_id": simulation.pk, "final_report": FinalReportSerializer(simulation).data}


class TaskPresentation:
    text_event = "token"

    def opening(self, generation: Generation) -> EventData | None:
        return MetadataSerializer(task_of(generation)).data

    def closing(self, generation: Generation) -> tuple[str, EventData]:
        task = _clock_of(generation)
        return "done", {
            "full_text": generation.text,
            "task_id": task.pk,
            "completed": False,
            "generation_id": str(generation.pk),
            "source": generation.source,
            "authored_because": generation.authored_because,
            "seconds_left": task.seconds_left,
        }


class ReportPresentation:
    text_event = "report"

    def opening(self, generation: Generation) -> EventData | None:
        return None

    def closing(self, generation: Generation) -> tuple[str, EventData]:
        return "completed", final_report(generation)


def current(generation: Generation) -> EventData:
    """The answer to "what is my task now", for a complete text."""
    return final_report(generation) if generation.kind == REPORT else TaskSerializer(task_of(generation)).data


def submitted(generation: Generation) -> EventData:
    """The answer to a submission, for the complete text that follows it."""
    if generation.kind == REPORT:
        return final_report(generation)
    return {"completed": False, "next_task": TaskSerializer(task_of(generation)).data}
