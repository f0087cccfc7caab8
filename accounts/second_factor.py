"""The second factor: a code from an app beside the password, and who has to have one."""

import base64
import functools
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Concatenate, ParamSpec

from allauth.account.internal.flows.login import get_authentication_records, record_authentication
from allauth.core import context
from allauth.core.internal.cryptokit import normalize_user_code
from allauth.mfa import app_settings
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.base.forms import AuthenticateForm, BaseAuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authenticator_added
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.utils import is_mfa_enabled
from asgiref.sync import markcoroutinefunction, sync_to_async
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.crypto import salted_hmac
from django.utils.decorators import async_only_middleware
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from accounts import attempts
from accounts.attempts import Attempt
from accounts.limits import Limit
from accounts.models import User
from web.problems import Problem, as_json

P = ParamSpec("P")

logger = logging.getLogger("accounts.second_factor")


def is_missing(request: HttpRequest) -> bool:
    """Return whether somebody of the staff may not act as such before this session has shown a second factor.

    A program that sends a token belongs to no session: where a second factor is required, tokens open what learners do.
    """
    user = request.user
    return bool(settings.REQUIRE_STAFF_MFA and user.is_authenticated and user.is_staff and not was_shown(request))


def was_shown(request: HttpRequest) -> bool:
    records = get_authentication_records(request, request.user)
    shown = {record.get("id") for record in records if record["method"] == "mfa"}
    # Sessions that showed one which was removed since count no more than those that showed none.
    return bool(shown) and Authenticator.objects.filter(user=request.user, pk__in=shown).exists()


def require(request: HttpRequest) -> None:
    """Raise Problem, 403, where a second factor is required of staff and missing."""
    if is_missing(request):
        raise Problem(
            _("Staff need a second factor here. Set one up on your account page and log in in a browser with it."),
            code="second_factor_required",
            status=403,
        )


@async_only_middleware
def staff_api_middleware(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Guard all that is under /admin/api/, whichever view answers there; the admin's pages ask StaffSite."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if settings.REQUIRE_STAFF_MFA and request.path.startswith("/admin/api/"):
            try:
                await sync_to_async(require)(request)
            except Problem as problem:
                return as_json(problem)
        return await get_response(request)

    markcoroutinefunction(middleware)
    return middleware


def place_to_show_it(user: User, *, then: str) -> str:
    """Return the page where somebody sets up a second factor, or shows the one they have and goes on to `then`."""
    if has_one(user):
        return f"{reverse('mfa_reauthenticate')}?{urlencode({'next': then})}"
    return reverse("mfa_activate_totp")


def shown_first(
    view: Callable[Concatenate[HttpRequest, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Ask for the second factor before it can be changed in a session that has not shown it."""

    @functools.wraps(view)
    def answered(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        user = request.user
        if user.is_authenticated and has_one(user) and not was_shown(request):
            return redirect(place_to_show_it(user, then=request.path))
        return view(request, *args, **kwargs)

    return answered


def has_one(user: User) -> bool:
    return bool(is_mfa_enabled(user, [Authenticator.Type.TOTP]))


def remove(user: User) -> bool:
    """Remove the second factor of somebody who has lost it, recovery codes included; return whether there was one."""
    deleted, _details = Authenticator.objects.filter(user=user).delete()
    return bool(deleted)


@receiver(authenticator_added)
def count_as_shown(*, request: HttpRequest, user: User, authenticator: Authenticator, **_more: object) -> None:
    """Count a second factor as shown in the session that set it up: its code was typed there."""
    if authenticator.type == Authenticator.Type.TOTP:
        record_authentication(request, user, "mfa", id=authenticator.pk, type=authenticator.type)


class Adapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth ships no types
    def encrypt(self, text: str) -> str:
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _cipher().decrypt(encrypted_text.encode()).decode()


def _cipher() -> MultiFernet:
    """Return what the secrets of apps and recovery codes are stored under: a key of its own from SECRET_KEY."""
    return MultiFernet(
        [
            Fernet(
                base64.urlsafe_b64encode(salted_hmac("accounts.second_factor", "", key, algorithm="sha256").digest())
            )
            for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        ]
    )


# A code is right before and after its own half minute too, and must not be taken twice in all that time.
USED_CODES = Limit(
    "used_code", burst=1, refill=timedelta(seconds=app_settings.TOTP_PERIOD * (2 * app_settings.TOTP_TOLERANCE + 2))
)


def _use(user: User, code: str) -> bool:
    """Mark a code as used; return whether it was not before. The cache, where allauth marks it, may forget it."""
    return USED_CODES.take(f"{user.pk} {normalize_user_code(code)}")


class CountedCode(BaseAuthenticateForm):  # type: ignore[misc]  # allauth ships no types
    def clean_code(self) -> str:
        who = attempts.who(context.request, self.user)
        attempt = Attempt(attempts.CODES, [who])
        attempt.begin()
        try:
            code: str = super().clean_code()
        except InvalidToken:
            logger.error(  # noqa: TRY400  # the reason is known
                "the second factor of user %s was stored under another SECRET_KEY; "
                "manage.py remove_second_factor lets them set it up again",
                self.user.pk,
            )
            raise Adapter().validation_error("incorrect_code") from None
        if self.authenticator.type == Authenticator.Type.TOTP and not _use(self.user, code):
            raise Adapter().validation_error("incorrect_code")
        attempt.right(who)
        return code


class CountedAuthenticateForm(CountedCode, AuthenticateForm):  # type: ignore[misc]
    pass


class CountedReauthenticateForm(CountedCode, ReauthenticateForm):  # type: ignore[misc]
    pass


class UsedOnceActivateForm(ActivateTOTPForm):  # type: ignore[misc]
    def clean_code(self) -> str:
        code: str = super().clean_code()
        _use(self.user, code)
        return code
