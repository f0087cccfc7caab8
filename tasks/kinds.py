"""What the texts of this app are for: the tasks of a simulation, and the report it ends in."""

from generation.kinds import EventData, Events, Kind
from generation.model_request import ModelRequest
from generation.models import Generation
from tasks import presentation, prompt, report
from tasks.models import Simulation


class TaskEvents(Events):
    def opening(self, generation: Generation) -> EventData | None:
        return presentation.metadata(generation)

    def closing(self, generation: Generation) -> tuple[str, EventData]:
        return "done", presentation.done(generation)


class TaskKind(Kind):
    events = TaskEvents
    is_continued_if_cut = True

    def request(self, generation: Generation) -> ModelRequest:
        simulation = Simulation.objects.with_everything().get(tasks__generation=generation)
        (task,) = [task for task in simulation.ordered_tasks if task.generation_id == generation.pk]
        return ModelRequest(prompt.for_task(simulation, task))

    def fallback(self, generation: Generation) -> str:
        return generation.task.brief.authored_text


class ReportEvents(Events):
    text_event = "report"

    def opening(self, generation: Generation) -> EventData | None:
        return None

    def closing(self, generation: Generation) -> tuple[str, EventData]:
        return "completed", presentation.final_report(Simulation.objects.with_everything().get(report=generation))


class ReportKind(Kind):
    events = ReportEvents
    is_continued_if_cut = True

    def request(self, generation: Generation) -> ModelRequest:
        return ModelRequest(prompt.for_report(Simulation.objects.with_everything().get(report=generation)))

    def fallback(self, generation: Generation) -> str:
        return report.compose(Simulation.objects.with_everything().get(report=generation))
