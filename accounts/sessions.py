"""Sessions go on for as long as they are used."""

import time
from collections.abc import Awaitable, Callable

from asgiref.sync import markcoroutinefunction
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

# Django would renew a session with every request, and so write with every request.
RENEW_AFTER_SECONDS = 24 * 3600
RENEWED_AT = "renewed_at"


@receiver(user_logged_in)
def begin(*, request: HttpRequest, **_kwargs: object) -> None:
    """Record when a session began, so that the first request after the log-in has nothing to write."""
    request.session[RENEWED_AT] = int(time.time())


@async_only_middleware
def renewal_middleware(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Renew a person's session and its cookie when they are used, once a day at most."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        session = request.session
        # One that was not accessed is not loaded: this request needed no person, or had a token.
        if session.accessed and await session.aget(SESSION_KEY):
            renewed_at = await session.aget(RENEWED_AT, 0)
            if time.time() - renewed_at > RENEW_AFTER_SECONDS:
                await session.aset(RENEWED_AT, int(time.time()))
        return response

    markcoroutinefunction(middleware)
    return middleware
