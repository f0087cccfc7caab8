"""Guests: trying without an account, and keeping what was done when an account comes later."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.forms import SignupForm
from allauth.account.utils import get_next_redirect_url, passthrough_next_redirect_url
from allauth.account.views import LoginView, SignupView
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME, login
from django.db import IntegrityError
from django.dispatch import Signal, receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.limits import Limit, client_network
from accounts.models import User
from web.problems import Problem

P = ParamSpec("P")

# A guest whose session ends has lost everything for good; it is renewed with use (accounts/sessions.py).
GUEST_SESSION_SECONDS = 180 * 24 * 3600

# Sent with `guest` and `user` when a guest logs in to an account that existed before. Whoever keeps rows of
# the guest's moves them to the user.
guest_became_user = Signal()


@receiver(guest_became_user)
def retire(*, guest: User, **_kwargs: object) -> None:
    """End what a guest could do whose work another account has now: tokens, sessions, open streams."""
    guest.end_tokens()
    guest.is_active = False
    guest.save(update_fields=["is_active"])


class GuestAwareAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    def new_user(self, request: HttpRequest) -> User:
        """A guest who signs up stays the same person, with everything done so far."""
        if request.user.is_authenticated and request.user.is_guest:
            return request.user
        user: User = super().new_user(request)
        return user

    def save_user(self, request: HttpRequest, user: User, form: object, commit: bool = True) -> User:
        user.is_guest = False
        saved: User = super().save_user(request, user, form, commit=commit)
        return saved


class GuestSignupView(SignupView):  # type: ignore[misc]  # allauth ships no types
    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            response: HttpResponse = _redirect_if_member(request) or super().dispatch(request, *args, **kwargs)
        except IntegrityError:
            # The same form sent twice: the other request has made the account, and its answer logged the person in.
            messages.info(request, _("This account was made a moment ago. Log in to it."))
            return redirect(passthrough_next_redirect_url(request, reverse("account_login"), REDIRECT_FIELD_NAME))
        return response

    def form_valid(self, form: SignupForm) -> HttpResponse:
        """Make the account, unless its network has made too many: each may spend a person's tokens of a day."""
        limit = Limit.per_hour("accounts", settings.GUESTS_PER_ADDRESS_AND_HOUR)
        if not limit.take(client_network(self.request)):
            form.add_error(None, _("Many accounts have just been made from your network. Try again in a few minutes."))
            refused: HttpResponse = self.form_invalid(form)
            return refused
        response: HttpResponse = super().form_valid(form)
        return response


class GuestLoginView(LoginView):  # type: ignore[misc]  # allauth ships no types
    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        response: HttpResponse = _redirect_if_member(request) or super().dispatch(request, *args, **kwargs)
        return response


def _redirect_if_member(request: HttpRequest) -> HttpResponse | None:
    """Send away whoever has an account and is logged in to it; a guest may sign up and log in."""
    if request.user.is_authenticated and not request.user.is_guest:
        return redirect(get_next_redirect_url(request) or settings.LOGIN_REDIRECT_URL)
    return None


def members_only(
    view: Callable[Concatenate[HttpRequest, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Send a guest, who has no password and no address to look after, to the sign-up."""

    @functools.wraps(view)
    def answered(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if request.user.is_authenticated and request.user.is_guest:
            return redirect("account_signup")
        return view(request, *args, **kwargs)

    return answered


def get_or_create_guest(request: HttpRequest, *, before_making_a_guest: Callable[[], None] = lambda: None) -> User:
    """Return the person who asks, making and logging in a guest where nobody is logged in yet.

    Raises:
        Problem: 401 when guests are not allowed, 429 when too many came from the client's network; and whatever
            `before_making_a_guest` raises.
    """
    if request.user.is_authenticated:
        return request.user
    if not settings.ALLOW_GUESTS:
        raise Problem(_("Log in or sign up to start."), code="not_authenticated", status=401)
    before_making_a_guest()
    limit, network = Limit.per_hour("guests", settings.GUESTS_PER_ADDRESS_AND_HOUR), client_network(request)
    if not limit.take(network):
        raise Problem(
            _("Many guests have just begun from your network. Sign up to go on now, or try again in a few minutes."),
            code="too_many_guests",
            status=429,
            retry_after=limit.seconds_to_wait(network),
        )
    guest = User.objects.create_guest()
    login(request, guest, backend="django.contrib.auth.backends.ModelBackend")
    request.session.set_expiry(GUEST_SESSION_SECONDS)
    return guest
