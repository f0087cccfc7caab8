"""Tokens: how a program proves who it is, `Authorization: Bearer TOKEN`."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware
from knox.auth import TokenAuthentication
from knox.models import AuthToken
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import User
from web.problems import as_json, invalid_token, wants_json

TOKEN_LIFETIME = timedelta(days=90)


def create_token(user: User) -> str:
    """Make a token and give its text, which is stored hashed and cannot be read again."""
    _, text = AuthToken.objects.create(user=user, expiry=TOKEN_LIFETIME)
    return str(text)


@async_only_middleware
def bearer_token_middleware(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Accept a valid token instead of the session in the API, for Django's own views and DRF's alike.

    A browser never sends a token by itself, so a request that carries one needs no CSRF check. Pages take none: a token
    that leaked could make others there, and outlive its own end.
    """

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        scheme = request.headers.get("Authorization", "").split(maxsplit=1)[:1]
        if [word.lower() for word in scheme] == ["bearer"] and wants_json(request):
            try:
                user, token = await sync_to_async(_user_of_token)(request)
            except (AuthenticationFailed, UnicodeDecodeError):  # knox takes every token for UTF-8
                return as_json(invalid_token())
            request.user = user
            request.token = token.pk  # type: ignore[attr-defined]
            request.auser = _giver_of(user)
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # noqa: SLF001  # as Django's test client
        return await get_response(request)

    markcoroutinefunction(middleware)
    return middleware


def token_of(request: HttpRequest | Request) -> str:
    """Return the key of the row of the valid token that says who asks; empty where none does.

    Any other `Authorization` says nothing here.
    """
    return getattr(request, "token", "")


def _user_of_token(request: HttpRequest) -> tuple[User, AuthToken]:
    user, token = TokenAuthentication().authenticate(request)
    if not isinstance(user, User):
        raise AuthenticationFailed
    return user, token


def _giver_of(user: User) -> Callable[[], Awaitable[User]]:
    async def auser() -> User:
        return user

    return auser


class SessionOrToken(SessionAuthentication):
    """Whoever the middleware found, by session (then with CSRF) or by token."""

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
