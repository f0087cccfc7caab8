from typing import Any

from allauth.account.utils import get_next_redirect_url
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from accounts import second_factor


class StaffSite(AdminSite):
    """The admin, entered through the site's own log-in, so that whatever holds there holds here."""

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and not second_factor.is_missing(request)

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        user = request.user
        wanted = get_next_redirect_url(request) or reverse("admin:index")
        if not user.is_authenticated or user.is_guest:
            return redirect(f"{resolve_url('account_login')}?{urlencode({'next': wanted})}")
        if user.is_staff and second_factor.is_missing(request):
            messages.info(request, _("The administration of this site is open to staff with a second factor."))
            return redirect(second_factor.place_to_show_it(user, then=wanted))
        if not self.has_permission(request):
            return render(request, "accounts/not_staff.html", status=403)
        return redirect(wanted)

    def password_change(  # type: ignore[override]  # the page is the site's own
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect("account_change_password")
