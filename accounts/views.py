"""The learner's account page, and the way to a new password."""

from datetime import timedelta

from allauth.account.forms import ResetPasswordForm
from allauth.account.views import PasswordResetView
from allauth.mfa.base.views import authenticate as ask_for_second_factor
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from knox.models import AuthToken

from accounts import attempts, second_factor
from accounts.current import signed_in
from accounts.limits import Limit
from accounts.tokens import create_token
from web.zones import keep_choice, known_zones

# A program each; without a limit a guest could fill the table, and the page, which lists all.
MOST_TOKENS = 50
RESET_MAILS = Limit("reset_mail", burst=5, refill=timedelta(minutes=1))


@never_cache
@require_safe
def csrf_token(request: HttpRequest) -> JsonResponse:
    """Return a token for the forms of a page that stands open while its person logs in or signs up in another tab.

    Pages of other origins can send this request and cannot read the answer.
    """
    return JsonResponse({"token": get_token(request)})


@never_cache
@login_required
def account(request: HttpRequest, *, new_token: str = "") -> HttpResponse:
    tokens = AuthToken.objects.filter(user=request.user).order_by("-created")
    has_second_factor = second_factor.has_one(signed_in(request))
    context = {
        "tokens": tokens,
        "new_token": new_token,
        "has_second_factor": has_second_factor,
        "zones": sorted(known_zones()),
    }
    return render(request, "accounts/account.html", context)


@never_cache
@login_required
@require_POST
def choose_timezone(request: HttpRequest) -> HttpResponse:
    """Keep the zone in which a person wants to read times, for this browser and for others they log in with."""
    user, zone = signed_in(request), request.POST.get("timezone", "")
    if zone and zone not in known_zones():
        messages.error(request, _("This time zone is not known here. Choose one from the list."))
        return redirect("account")
    user.timezone = zone
    user.save(update_fields=["timezone"])
    response = redirect("account")
    keep_choice(response, zone, is_secure=request.is_secure())
    return response


@never_cache
@login_required
@require_POST
def token_create(request: HttpRequest) -> HttpResponse:
    if AuthToken.objects.filter(user=request.user).count() >= MOST_TOKENS:
        text = _("You have %(number)d tokens, as many as there may be. Revoke one that you no longer use.")
        messages.error(request, text % {"number": MOST_TOKENS})
        return redirect("account")
    # Shown in the answer to this request and nowhere else, so there is nothing to redirect to.
    return account(request, new_token=create_token(signed_in(request)))


@login_required
@require_POST
def token_revoke(request: HttpRequest, pk: str) -> HttpResponse:
    get_object_or_404(AuthToken, user=request.user, pk=pk).delete()
    messages.success(request, _("The token is revoked."))
    return redirect("account")


def authenticate(request: HttpRequest) -> HttpResponse:
    """Ask who is logging in for the second factor; somebody who was a guest until now stays one as long."""
    if request.user.is_authenticated and request.user.is_guest:
        request.guest = request.user  # type: ignore[attr-defined]  # AccountAdapter.login hands the guest's work over
        request.user = AnonymousUser()
    response: HttpResponse = ask_for_second_factor(request)
    return response


class ResetView(PasswordResetView):  # type: ignore[misc]  # allauth ships no types
    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not settings.SENDS_MAIL:
            return render(request, "account/password_reset.html")  # which says so
        response: HttpResponse = super().dispatch(request, *args, **kwargs)
        return response

    def form_valid(self, form: ResetPasswordForm) -> HttpResponse:
        address = form.cleaned_data["email"].casefold()
        if not RESET_MAILS.take(address):
            form.add_error("email", attempts.too_many(RESET_MAILS.seconds_to_wait(address)))
            refused: HttpResponse = self.form_invalid(form)
            return refused
        response: HttpResponse = super().form_valid(form)
        return response
