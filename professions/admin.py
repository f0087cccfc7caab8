import uuid
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, ForeignKey, Model, QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from accounts.current import signed_in
from generation.admin import ShortListAdmin
from generation.upstream import candidates
from generation.upstream.faults import FAULTS
from professions import variants
from professions.markdown import to_html
from professions.models import Brief, Competency, Criterion, Profession, StateVariable, Variant
from web.problems import Conflict

EARLIER_VARIANTS = 20


class BriefInline(admin.TabularInline[Brief, Profession]):
    model = Brief
    fields = ["order", "title", "slug", "time_limit_minutes"]
    extra = 0
    show_change_link = True
    can_delete = False
    prepopulated_fields = {"slug": ["title"]}

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # a brief needs its texts; it is added on a page of its own


class CompetencyInline(admin.TabularInline[Competency, Profession]):
    model = Competency
    fields = ["order", "title", "slug"]
    prepopulated_fields = {"slug": ["title"]}
    extra = 0


class StateVariableInline(admin.TabularInline[StateVariable, Profession]):
    model = StateVariable
    fields = ["order", "title", "slug", "unit", "start", "minimum", "maximum", "good", "shown_as"]
    prepopulated_fields = {"slug": ["title"]}
    extra = 0


@admin.register(Profession)
class ProfessionAdmin(ShortListAdmin[Profession]):
    list_display = ["title", "language", "published", "brief_count", "updated_at"]
    list_editable = ["published"]
    list_filter = ["published", "language"]
    search_fields = ["title", "slug", "description"]
    prepopulated_fields = {"slug": ["title"]}
    inlines = [BriefInline, CompetencyInline, StateVariableInline]
    fieldsets = [
        (None, {"fields": ["title", "slug", "language", "published", "position"]}),
        (_("Occupation and time"), {"fields": ["occupation", "esco", "time_rule"]}),
        (_("For learners"), {"fields": ["tagline", "description", "report_opening", "report_closing"]}),
        (_("For the model"), {"fields": ["system_prompt"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Profession]:
        return super().get_queryset(request).annotate(_brief_count=Count("briefs"))

    @admin.display(description=_("briefs"), ordering="_brief_count")
    def brief_count(self, profession: Any) -> int:
        count: int = profession._brief_count  # noqa: SLF001  # the annotation above
        return count


class CriterionInline(admin.StackedInline[Criterion, Brief]):
    model = Criterion
    extra = 0
    prepopulated_fields = {"slug": ["title"]}
    fields = ["order", "title", "slug", "competency", "points", "most_without_quotation", "levels"]

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        match = request.resolver_match
        brief = match.kwargs.get("object_id") if match is not None else None
        if db_field.name == "competency" and brief:
            kwargs["queryset"] = Competency.objects.filter(profession__briefs=brief)
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if db_field.name == "competency" and field is not None:
            choices: Any = field.choices
            field.choices = list(choices)  # asked for once, and not for each criterion
        return field


class EarlierVariant(NamedTuple):
    """A row of the list below the columns. `trouble`: why there is no whole text."""

    variant: Variant
    html: SafeString
    trouble: str | Promise

    @classmethod
    def of(cls, variant: Variant) -> "EarlierVariant":
        fault = FAULTS.get(variant.generation.fault)
        return cls(variant, to_html(variant.generation.text), fault.message if fault else "")


@admin.register(Brief)
class BriefAdmin(ShortListAdmin[Brief]):
    list_display = ["title", "profession", "order", "time_limit_minutes"]
    list_filter = ["profession"]
    list_select_related = ["profession"]
    search_fields = ["title", "description", "authored_text"]
    ordering = ["profession__title", "order"]
    prepopulated_fields = {"slug": ["title"]}
    inlines = [CriterionInline]
    fieldsets = [
        (None, {"fields": ["profession", "order", "title", "slug", "time_limit_minutes", "aim_words"]}),
        (_("For learners"), {"fields": ["authored_text", "expert_answer"]}),
        (_("For the model"), {"fields": ["description"]}),
    ]

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("<int:pk>/variants/", self.admin_site.admin_view(self.variants), name="professions_brief_variants"),
            path(
                "<int:pk>/variants/<uuid:generation_id>/keep/",
                self.admin_site.admin_view(require_POST(self.keep)),
                name="professions_brief_keep",
            ),
        ]
        return own + super().get_urls()

    def _brief(self, request: HttpRequest, pk: int) -> Brief:
        brief = get_object_or_404(Brief.objects.select_related("profession"), pk=pk)
        if not self.has_change_permission(request, brief):
            raise PermissionDenied
        return brief

    def variants(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Let several models write the brief side by side."""
        brief = self._brief(request, pk)
        models = settings.VARIANT_MODELS[: variants.MOST_VARIANTS]
        earlier = brief.variants.select_related("generation")[:EARLIER_VARIANTS]
        context = {
            **self.admin_site.each_context(request),
            "title": _("Variants of “%(brief)s”") % {"brief": brief.title},
            "opts": self.opts,
            "brief": brief,
            "models": models + [""] * (variants.MOST_VARIANTS - len(models)),
            "known_models": sorted({one.model for one in candidates.all_of_use()}),
            "earlier": [EarlierVariant.of(variant) for variant in earlier],
        }
        return TemplateResponse(request, "admin/professions/variants.html", context)

    def keep(self, request: HttpRequest, pk: int, generation_id: uuid.UUID) -> HttpResponse:
        """Make a variant the authored text of its brief."""
        brief = self._brief(request, pk)
        variant = get_object_or_404(brief.variants.select_related("generation"), generation=generation_id)
        try:
            variants.keep(variant, staff=signed_in(request))
        except Conflict as conflict:
            self.message_user(request, str(conflict.message), messages.ERROR)
            return redirect("admin:professions_brief_variants", brief.pk)
        self.message_user(request, _("This text is now the authored text of the brief."), messages.SUCCESS)
        return redirect("admin:professions_brief_change", brief.pk)
