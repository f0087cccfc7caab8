from allauth.mfa.admin import AuthenticatorAdmin  # noqa: F401  # registers itself; replaced below
from allauth.mfa.models import Authenticator
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from knox.admin import AuthTokenAdmin  # noqa: F401  # registers itself; replaced below
from knox.models import AuthToken

from accounts import second_factor
from accounts.models import User


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    list_display = ["username", "email", "is_guest", "is_staff", "date_joined", "last_login"]
    list_filter = ["is_guest", "is_staff", "is_active", "groups"]
    date_hierarchy = "date_joined"
    fieldsets = [*(DjangoUserAdmin.fieldsets or []), (_("Learner"), {"fields": ["is_guest"]})]
    actions = ["remove_second_factor"]

    def has_superuser_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    @admin.action(description=_("Remove the second factor of selected people"), permissions=["superuser"])
    def remove_second_factor(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        removed = 0
        for user in chosen:
            if second_factor.remove(user):
                removed += 1
                self.log_change(request, user, gettext("Removed the second factor."))
        text = ngettext("%(count)d second factor is removed.", "%(count)d second factors are removed.", removed)
        self.message_user(request, text % {"count": removed}, messages.SUCCESS)


admin.site.unregister(Authenticator)  # allauth's page lets staff read and write secrets; see `remove_second_factor`
admin.site.unregister(AuthToken)  # knox's page lets staff make a token for anybody, and see it


@admin.register(AuthToken)
class TokenAdmin(admin.ModelAdmin[AuthToken]):
    """Tokens are made by their owners; staff can see that there are some, and revoke them."""

    list_display = ["token_key", "user", "created", "expiry"]
    list_select_related = ["user"]
    search_fields = ["user__username"]
    date_hierarchy = "created"
    fields = ["token_key", "user", "created", "expiry"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return False
