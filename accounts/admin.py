from allauth.account.adapter import get_adapter
from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from allauth.mfa.admin import AuthenticatorAdmin  # noqa: F401  # registers itself; replaced below
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
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

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Keep whoever may change people from taking over somebody with more rights."""
        return super().has_change_permission(request, obj) and (obj is None or has_all_rights_of(request.user, obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or has_all_rights_of(request.user, obj))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        rights = [] if request.user.is_superuser else ["is_staff", "is_superuser", "groups", "user_permissions"]
        return [*super().get_readonly_fields(request, obj), *rights]

    def get_urls(self) -> list[URLPattern]:
        link = path(
            "<int:pk>/reset-link/", self.admin_site.admin_view(self.reset_link), name="accounts_user_reset_link"
        )
        return [link, *super().get_urls()]

    def reset_link(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show staff a link with which somebody sets a new password, once, where the site sends no mail."""
        user = get_object_or_404(User, pk=pk)
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        link = ""
        can_log_in = user.is_active and not user.is_guest
        if request.method == "POST" and can_log_in:
            link = get_adapter().get_reset_password_from_key_url(
                f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"
            )
            self.log_change(request, user, gettext("Made a link for a new password."))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Link for a new password"),
            "subtitle": str(user),
            "opts": self.opts,
            "original": user,
            "can_log_in": can_log_in,
            "link": link,
            "days": settings.PASSWORD_RESET_TIMEOUT // 86400,
        }
        return TemplateResponse(request, "admin/accounts/user/reset_link.html", context)

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


def has_all_rights_of(person: User | AnonymousUser, other: User) -> bool:
    if person.is_superuser:
        return True
    return not other.is_superuser and other.get_all_permissions() <= person.get_all_permissions()


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
