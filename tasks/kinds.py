"""What the texts of this app are for: tasks of a simulation, the marks of answers, the report it ends in."""

import uuid
from dataclasses import replace
from operator import itemgetter

from django.conf import settings

from generation.kinds import EventData, Events, Kind, Part, StructuredEvents
from generation.model_request import ModelRequest
from generation.models import Generation
from tasks import assessing, presentation, prompt, report
from tasks.marking import asking
from tasks.marking.reading import read
from tasks.models import Assessment, Simulation


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


def _assessment_of(generation: Generation) -> Assessment:
    related = ("submission__task__brief", "submission__task__generation", "submission__task__simulation__profession")
    return Assessment.objects.select_related(*related).get(generation=generation)


class AssessmentEvents(StructuredEvents):
    def opening(self, generation: Generation) -> EventData | None:
        return presentation.assessment_metadata(_assessment_of(generation))

    def prepare(self, generation: Generation) -> None:
        self.assessment = _assessment_of(generation)

    def parts(self, text: str) -> list[Part]:
        usable = assessing.checked(self.assessment, read(text))
        shown = [(usable.ends[slug], mark) for slug, mark in usable.marks.items()]
        return [Part(end, "mark", presentation.checked_mark(mark)) for end, mark in sorted(shown, key=itemgetter(0))]

    def closing(self, generation: Generation) -> tuple[str, EventData]:
        return "assessed", presentation.assessment(_assessment_of(generation))

    def failed(self, generation: Generation) -> tuple[str, EventData] | None:
        return self.closing(generation)


class AssessmentKind(Kind):
    events = AssessmentEvents

    def request(self, generation: Generation) -> ModelRequest:
        assessment = _assessment_of(generation)
        task = assessment.submission.task
        messages = asking.messages(
            rubric=assessment.criteria,
            title=task.title,
            task_text=task.question,
            answer=assessment.submission.answer,
            marker=assessment.marker,
            language=task.simulation.language,
        )
        temperature = None if settings.LLM_TEMPERATURE is None else 0.0
        return ModelRequest(
            messages, response_format=asking.response_format(assessment.criteria), temperature=temperature
        )

    def follow_up(self, generation: Generation, text: str) -> ModelRequest | None:
        assessment = _assessment_of(generation)
        usable = assessing.checked(assessment, read(text))
        missing = usable.missing(assessment.criteria)
        if not missing:
            return None
        more = asking.repair(text, faults=usable.faults, missing=missing)
        request = generation.request
        return replace(request, messages=[*request.messages, *more])

    def on_end(self, generation: Generation) -> list[uuid.UUID]:
        assessment = _assessment_of(generation)
        assessing.keep(assessment, generation)
        return assessing.free_what_waits(assessment)


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
