from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta
from operator import attrgetter
from typing import Any, TypeVar

from asgiref.sync import async_to_sync
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import F, QuerySet
from django.db.models.functions import TruncDate
from django.db.models.options import Options
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from generation import budget
from generation.models import Attempt, CandidateHealth, DailyTokens, Generation, Job, Spending
from generation.upstream import candidates, context, probe

Row = TypeVar("Row", bound=models.Model)


class ReadOnlyAdmin:
    """Rows that the site writes; staff read them."""

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        # Only together with the person they belong to, which Django asks about here too.
        match = request.resolver_match
        return match is not None and str(match.url_name).startswith("accounts_user_")


class ShortListAdmin(admin.ModelAdmin[Row]):
    """Lists read no long texts: those make up nearly all of a row, and no list shows them."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Row]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        if match is None or not str(match.url_name).endswith("_changelist"):
            return rows
        related = self.list_select_related if isinstance(self.list_select_related, (list, tuple)) else []
        return rows.defer(*_long_columns(self.opts, related))


def _long_columns(of: Options[Any], related: Sequence[str]) -> Iterator[str]:
    """Yield the names of long columns, also of the models that are read with this one."""
    for path in ["", *related]:
        reached = of
        for name in filter(None, path.split("__")):
            field = reached.get_field(name)
            assert isinstance(field, models.ForeignKey)  # noqa: S101  # list_select_related names nothing else
            reached = field.path_infos[-1].to_opts
        for column in reached.concrete_fields:
            if isinstance(column, (models.TextField, models.JSONField)):
                yield f"{path}__{column.name}".removeprefix("__")


class AttemptInline(ReadOnlyAdmin, admin.TabularInline[Attempt, Generation]):
    model = Attempt
    fields = [
        "epoch",
        "number",
        "candidate",
        "outcome",
        "fault",
        "detail",
        "http_status",
        "request_id",
        "first_token_seconds",
        "seconds",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "cost",
    ]
    ordering = ["epoch", "number"]
    extra = 0


@admin.register(Generation)
class GenerationAdmin(ReadOnlyAdmin, ShortListAdmin[Generation]):
    list_display = [
        "id",
        "kind",
        "subject",
        "status",
        "source",
        "model",
        "user",
        "fault",
        "finish_reason",
        "seconds",
        "created_at",
    ]
    list_filter = ["status", "source", "authored_because", "kind", "subject", "fault", "finish_reason", "model"]
    list_select_related = ["user"]
    date_hierarchy = "created_at"
    search_fields = ["id", "user__username"]
    show_full_result_count = False
    inlines = [AttemptInline]

    @admin.display(description=_("seconds"))
    def seconds(self, generation: Generation) -> str:
        return "" if generation.seconds is None else f"{generation.seconds:.1f}"


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin, ShortListAdmin[Attempt]):
    list_display = [
        "started_at",
        "candidate",
        "outcome",
        "fault",
        "http_status",
        "first_token_seconds",
        "seconds",
        "prompt_tokens",
        "completion_tokens",
        "cost",
        "generation",
    ]
    list_filter = ["outcome", "fault", "provider", "model", "is_hedge"]
    date_hierarchy = "started_at"
    search_fields = ["generation__id", "request_id"]
    show_full_result_count = False
    list_select_related = ["generation"]


@admin.register(CandidateHealth)
class CandidateHealthAdmin(ReadOnlyAdmin, ShortListAdmin[CandidateHealth]):
    list_display = [
        "candidate",
        "works",
        "fault",
        "failures",
        "cooling_until",
        "streams",
        "reports_usage",
        "writes_json_schema",
        "writes_json_object",
        "asked_without",
        "context",
        "first_token_seconds",
        "verified_at",
    ]
    list_filter = ["provider", "model", "fault"]
    actions = ["ask_again", "verify"]

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("generation.change_candidatehealth")

    @admin.display(description=_("candidate"), ordering="model")
    def candidate(self, row: CandidateHealth) -> str:
        found = candidates.find(row.identity)
        return str(found) if found else _("%(candidate)s with a key that is gone") % {"candidate": row}

    @admin.display(description=_("works"), boolean=True)
    def works(self, row: CandidateHealth) -> bool | None:
        if row.is_cooling_down:
            return False
        return True if row.failures == 0 else None

    @admin.display(description=_("asked without"))
    def asked_without(self, row: CandidateHealth) -> str:
        return ", ".join(sorted(row.refused_lately))

    @admin.display(description=_("context"), ordering="context_tokens")
    def context(self, row: CandidateHealth) -> str:
        return "" if row.context_tokens is None else str(context.sentence(row.context_tokens))

    @admin.action(description=_("Ask again at once, whatever they did"), permissions=["operate"])
    def ask_again(self, request: HttpRequest, rows: QuerySet[CandidateHealth]) -> None:
        count = CandidateHealth.objects.filter(pk__in=rows).recover_all()
        text = ngettext("%(count)d candidate is asked again.", "%(count)d candidates are asked again.", count)
        self.message_user(request, text % {"count": count})

    @admin.action(description=_("Verify: ask for a few words now"), permissions=["operate"])
    def verify(self, request: HttpRequest, rows: QuerySet[CandidateHealth]) -> None:
        chosen = [found for row in rows if (found := candidates.find(row.identity))]
        if not chosen:
            self.message_user(request, _("Their keys are gone: there is nobody to ask."), messages.WARNING)
        for finding in async_to_sync(probe.probe_all)(chosen):
            self.message_user(request, finding.sentence(), messages.WARNING if finding.fault else messages.SUCCESS)


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin, admin.ModelAdmin[Job]):
    list_display = ["name", "due_at", "started_at", "took_seconds", "has_failed", "lease_owner"]


DAYS_SHOWN = 30
PEOPLE_SHOWN = 50


@admin.register(Spending)
class SpendingAdmin(ReadOnlyAdmin, admin.ModelAdmin[Spending]):
    """What the models cost: one page of sums instead of a list of rows."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        since = timezone.now().date() - timedelta(days=DAYS_SHOWN - 1)
        attempts = Attempt.objects.since(since)
        tables = [
            (
                _("Day (UTC)"),
                sorted(attempts.spent_by(TruncDate("started_at", tzinfo=UTC)), key=attrgetter("name"), reverse=True),
            ),
            (_("Profession"), attempts.spent_by(F("generation__subject"))),
            (_("Model"), attempts.spent_by(F("model"))),
            (_("Person"), attempts.spent_by(F("generation__user__username"))[:PEOPLE_SHOWN]),
        ]
        context = {
            **self.admin_site.each_context(request),
            "title": _("Spending of the last %(days)d days") % {"days": DAYS_SHOWN},
            "opts": self.opts,
            "tables": tables,
            "today": budget.of_today(),
            "people": DailyTokens.objects.largest_of_people(timezone.now().date()),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/generation/spending.html", context)
