from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from generation.models import Generation


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


@admin.register(Generation)
class GenerationAdmin(ReadOnlyAdmin, admin.ModelAdmin[Generation]):
    list_display = ["id", "kind", "status", "source", "model", "user", "fault", "seconds", "created_at"]
    list_filter = ["status", "source", "kind", "fault", "model"]
    list_select_related = ["user"]
    date_hierarchy = "created_at"
    search_fields = ["id", "user__username"]
    show_full_result_count = False

    @admin.display(description=_("seconds"))
    def seconds(self, generation: Generation) -> str:
        if generation.started_at is None or generation.finished_at is None:
            return ""
        return f"{(generation.finished_at - generation.started_at).total_seconds():.1f}"
