from typing import Any

from django.contrib import admin
from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from professions.models import Brief, Criterion, Profession


class BriefInline(admin.TabularInline[Brief, Profession]):
    model = Brief
    fields = ["order", "title", "slug", "time_limit_minutes"]
    extra = 0
    show_change_link = True
    can_delete = False
    prepopulated_fields = {"slug": ["title"]}

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # a brief needs its texts; it is added on a page of its own


@admin.register(Profession)
class ProfessionAdmin(admin.ModelAdmin[Profession]):
    list_display = ["title", "language", "published", "brief_count", "updated_at"]
    list_editable = ["published"]
    list_filter = ["published", "language"]
    search_fields = ["title", "slug", "description"]
    prepopulated_fields = {"slug": ["title"]}
    inlines = [BriefInline]
    fieldsets = [
        (None, {"fields": ["title", "slug", "language", "published", "position"]}),
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
    fields = ["order", "title", "slug", "points", "levels"]


@admin.register(Brief)
class BriefAdmin(admin.ModelAdmin[Brief]):
    list_display = ["title", "profession", "order", "time_limit_minutes"]
    list_filter = ["profession"]
    list_select_related = ["profession"]
    search_fields = ["title", "description", "authored_text"]
    ordering = ["profession__title", "order"]
    prepopulated_fields = {"slug": ["title"]}
    inlines = [CriterionInline]
    fieldsets = [
        (None, {"fields": ["profession", "order", "title", "slug", "time_limit_minutes"]}),
        (_("For learners"), {"fields": ["authored_text", "expert_answer"]}),
        (_("For the model"), {"fields": ["description"]}),
    ]
