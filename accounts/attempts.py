"""How wrong passwords and wrong codes slow an account down, at every door in the same way.

Five may be wrong at once, and one more after each refill: who guesses gets no further, and whoever the account
belongs to waits for minutes at most. A browser in which that person has logged in before is counted apart, so that
guesses made elsewhere do not keep them out.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from allauth.account.internal.userkit import filter_users_by_email, get_user_by_username
from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import get_random_string
from django.utils.translation import ngettext

from accounts.limits import Limit, client_network
from accounts.models import User

PASSWORDS = Limit("wrong_password", burst=5, refill=timedelta(minutes=1))
# Of a million codes three are right at any time, and who tries them knows the password.
CODES = Limit("wrong_code", burst=5, refill=timedelta(minutes=5))
# Room for a class behind one address, each of whom mistypes a few times; one guess for each of many accounts has none.
NETWORK = Limit("wrong_from_network", burst=120, refill=timedelta(seconds=1))

DEVICE_LIFETIME = timedelta(days=400)  # as long as browsers keep a cookie at most
_SALT = "accounts.attempts.device"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to prove who somebody is, counted as wrong until it is `right`."""

    limit: Limit
    counted: Sequence[str]

    def begin(self) -> None:
        """Count the attempt. Raises ValidationError, for a form to show, when there were too many."""
        if all(self.limit.take(who) for who in self.counted):
            return
        raise too_many(max(self.limit.seconds_to_wait(who) for who in self.counted))

    def right(self, who: str) -> None:
        """Forget the wrong attempts of the one who got in. A name may mean others too, whose guesses stay counted."""
        self.limit.clear(who)


def too_many(seconds: int) -> ValidationError:
    """Return the refusal that says how long to wait, in minutes where those are many seconds."""
    seconds = max(seconds, 1)
    if seconds <= 90:
        text = ngettext(
            "Too many attempts. Try again in %(number)s second.",
            "Too many attempts. Try again in %(number)s seconds.",
            seconds,
        )
        return ValidationError(text % {"number": seconds}, code="too_many_login_attempts")
    minutes = -(-seconds // 60)
    text = ngettext(
        "Too many attempts. Try again in %(number)s minute.",
        "Too many attempts. Try again in %(number)s minutes.",
        minutes,
    )
    return ValidationError(text % {"number": minutes}, code="too_many_login_attempts")


def accounts_meant(typed: Sequence[str]) -> list[User]:
    """Return the accounts whose user name or address was typed: mostly one or none."""
    found: list[User] = []
    for name in typed:
        by_name = get_user_by_username(name)
        found += [by_name] if by_name else []
        found += filter_users_by_email(name, prefer_verified=True, for_login=True)
    return list({user.pk: user for user in found}.values())


def of_names(request: HttpRequest, names: Sequence[str], accounts: Sequence[User]) -> Attempt:
    """Return an attempt to log in: by account, or for an unknown name, which is answered alike, by that name."""
    if accounts:
        return Attempt(PASSWORDS, [who(request, user) for user in accounts])
    return Attempt(PASSWORDS, [f"name {unicodedata.normalize('NFKC', name).casefold()}" for name in names])


def who(request: HttpRequest, user: User) -> str:
    """Return what somebody's wrong attempts are counted by."""
    device = _device(request, user)
    return f"user {user.pk} device {device}" if device else f"user {user.pk}"


def forget(user: User) -> None:
    """Clear the count of somebody whose password was just set, so that it can be tried."""
    PASSWORDS.clear(f"user {user.pk}")


def refuse_paused(request: HttpRequest, accounts: Sequence[User]) -> None:
    """Raise ValidationError in a network from which too much was wrong, except where one of the accounts is known.

    One pupil who guesses must not keep a school out: known browsers are counted apart, and nobody can forge one.
    """
    seconds = NETWORK.seconds_to_wait(client_network(request))
    if seconds and not any(_device(request, user) for user in accounts):
        raise too_many(seconds)


def count_wrong(request: HttpRequest) -> None:
    NETWORK.take(client_network(request))


def remember_device(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """Mark the browser in which somebody has logged in, unless it is marked already."""
    if _device(request, user):
        return
    response.set_cookie(
        _cookie_name(),
        signing.dumps([user.pk, get_random_string(22)], salt=_SALT),
        max_age=DEVICE_LIFETIME,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _device(request: HttpRequest, user: User) -> str:
    try:
        pk, device = signing.loads(request.COOKIES.get(_cookie_name(), ""), salt=_SALT, max_age=DEVICE_LIFETIME)
    except (signing.BadSignature, ValueError, TypeError):
        return ""
    return str(device) if pk == user.pk else ""


def _cookie_name() -> str:
    return "__Host-device" if settings.SESSION_COOKIE_SECURE else "device"
