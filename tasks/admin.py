from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.current import signed_in
from generation.admin import ReadOnlyAdmin, ShortListAdmin
from professions.markdown import to_html
from tasks import assessing
from tasks.debrief import criteria_of, passages
from tasks.models import Assessment, Simulation, Submission, Task
from web.problems import Conflict


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


class ReviewFilter(admin.SimpleListFilter):
    title = _("what waits for a person")
    parameter_name = "waits"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("asked", _("the learner asked a person to look")),
            ("instructs", _("the answer speaks to whoever marks it")),
            ("not_marked", _("not marked")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Submission]) -> QuerySet[Submission]:
        in_force = {"assessments__superseded_at": None}
        match self.value():
            case "asked":
                return queryset.filter(review__answered_at=None, review__asked_at__isnull=False)
            case "instructs":
                not_by_person = Q(**in_force, assessments__tries_to_instruct=True) & ~Q(assessments__marked_by="person")
                return queryset.filter(not_by_person).distinct()
            case "not_marked":
                return queryset.filter(**in_force, assessments__status=Assessment.Status.NOT_MARKED).distinct()
        return queryset


class AssessmentInline(ReadOnlyAdmin, admin.TabularInline[Assessment, Submission]):
    model = Assessment
    fields = ["created_at", "marked_by", "person", "status", "because", "points_of_most", "next_time", "superseded_at"]
    readonly_fields = ["created_at", "points_of_most"]
    extra = 0
    ordering = ["-created_at"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("person").prefetch_related("marks")

    @admin.display(description=_("points"))
    def points_of_most(self, assessment: Assessment) -> str:
        return f"{assessment.points} / {assessment.most}" if assessment.has_marks else "-"


@admin.register(Submission)
class SubmissionAdmin(ReadOnlyAdmin, ShortListAdmin[Submission]):
    list_display = ["id", "task", "learner", "beginning", "created_at"]
    list_filter = [ReviewFilter, "task__simulation__profession"]
    inlines = [AssessmentInline]
    change_form_template = "admin/tasks/submission.html"
    list_select_related = ["task__brief", "task__simulation__user"]
    date_hierarchy = "created_at"
    search_fields = ["task__simulation__user__username", "answer"]
    fields = ["task", "answer_text", "created_at", "wish"]

    def get_urls(self) -> list[URLPattern]:
        mark = self.admin_site.admin_view(self.mark)
        return [path("<int:pk>/mark/", mark, name="tasks_submission_mark"), *super().get_urls()]

    def mark(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Let a person mark an answer, criterion by criterion."""
        submission = get_object_or_404(Submission.objects.select_related("task__brief"), pk=pk)
        if not request.user.has_perm("tasks.add_assessment"):
            raise PermissionDenied
        assessment = get_object_or_404(submission.assessments.in_force().with_marks())
        problem: Any = ""
        if request.method == "POST":
            slugs = [criterion["slug"] for criterion in assessment.criteria]
            points = {slug: int(value) for slug in slugs if (value := request.POST.get(slug, "")).isdecimal()}
            reasons = {slug: request.POST.get(f"{slug}-reason", "").strip() for slug in slugs}
            try:
                assessing.mark_by_person(submission, person=signed_in(request), points=points, reasons=reasons)
            except Conflict as refused:
                problem = refused.message
            else:
                self.message_user(request, _("Your marks are in force now."), messages.SUCCESS)
                return redirect("admin:tasks_submission_change", pk)
        criteria = criteria_of(assessment)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Mark “%(task)s”") % {"task": submission.task.brief.title},
            "opts": self.opts,
            "submission": submission,
            "criteria": criteria,
            "passages": passages(submission.answer, criteria),
            "problem": problem,
        }
        return TemplateResponse(request, "admin/tasks/mark.html", context, status=400 if problem else 200)

    @admin.display(description=_("asked a person to look"))
    def wish(self, submission: Submission) -> str:
        review = getattr(submission, "review", None)
        return str(review.reason or _("yes")) if review is not None else "-"

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
