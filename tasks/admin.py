from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from generation.admin import ReadOnlyAdmin, ShortListAdmin
from professions.markdown import to_html
from tasks.models import Simulation, Submission, Task


class TaskInline(ReadOnlyAdmin, admin.TabularInline[Task, Simulation]):
    model = Task
    fields = ["order", "brief", "generation", "clock_started_at", "handed_in"]
    readonly_fields = ["order", "brief", "generation", "clock_started_at", "handed_in"]
    extra = 0
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("brief", "generation", "submission")

    @admin.display(description=_("handed in"))
    def handed_in(self, task: Task) -> Any:
        return task.submission.created_at if task.is_submitted else None


@admin.register(Simulation)
class SimulationAdmin(ReadOnlyAdmin, ShortListAdmin[Simulation]):
    list_display = ["id", "profession", "user", "language", "started_at", "current", "report_status"]
    list_filter = ["profession", "language", "report__status"]
    list_select_related = ["profession", "user", "report"]
    date_hierarchy = "started_at"
    search_fields = ["user__username", "profession__title"]
    inlines = [TaskInline]

    @admin.display(description=_("current"), boolean=True, ordering="superseded_at")
    def current(self, simulation: Simulation) -> bool:
        return simulation.is_current

    @admin.display(description=_("report"), ordering="report__status")
    def report_status(self, simulation: Simulation) -> str:
        return simulation.report.get_status_display() if simulation.report else ""


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin, ShortListAdmin[Task]):
    list_display = ["id", "title", "profession", "learner", "order", "status", "clock_started_at"]
    list_filter = ["simulation__profession", "generation__status"]
    list_select_related = ["brief", "generation", "simulation__user", "simulation__profession"]
    search_fields = ["simulation__user__username", "brief__title"]
    fields = ["simulation", "brief", "order", "time_limit_minutes", "generation", "clock_started_at", "text", "answer"]

    @admin.display(description=_("profession"), ordering="simulation__profession")
    def profession(self, task: Task) -> str:
        return str(task.simulation.profession)

    @admin.display(description=_("learner"), ordering="simulation__user")
    def learner(self, task: Task) -> str:
        return str(task.simulation.user)

    @admin.display(description=_("status"), ordering="generation__status")
    def status(self, task: Task) -> str:
        return task.generation.get_status_display()

    @admin.display(description=_("text"))
    def text(self, task: Task) -> SafeString:
        return to_html(task.question)

    @admin.display(description=_("answer"))
    def answer(self, task: Task) -> str:
        return task.submission.answer if task.is_submitted else "-"


@admin.register(Submission)
class SubmissionAdmin(ReadOnlyAdmin, ShortListAdmin[Submission]):
    list_display = ["id", "task", "learner", "beginning", "created_at"]
    list_filter = ["task__simulation__profession"]
    list_select_related = ["task__brief", "task__simulation__user"]
    date_hierarchy = "created_at"
    search_fields = ["task__simulation__user__username", "answer"]
    fields = ["task", "answer_text", "created_at"]

    @admin.display(description=_("learner"), ordering="task__simulation__user")
    def learner(self, submission: Submission) -> str:
        return str(submission.task.simulation.user)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Submission]:
        return super().get_queryset(request).annotate(_beginning=Left("answer", 80))

    @admin.display(description=_("answer"))
    def beginning(self, submission: Any) -> str:
        return str(submission._beginning)  # noqa: SLF001  # the annotation above

    @admin.display(description=_("answer"))
    def answer_text(self, submission: Submission) -> SafeString:
        return format_html("<pre>{}</pre>", submission.answer)
