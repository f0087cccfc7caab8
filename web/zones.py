"""Times in the reader's own zone: the one that their browser names, or that they have chosen.

Both are cookies, so that no request asks the database for it.
"""

import functools
import zoneinfo
from collections.abc import Mapping

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.decorators import async_only_middleware

from web.middleware import GetResponse
from web.problems import wants_json

# Set by web's timezone.js.
OF_THE_BROWSER = "timezone"
CHOSEN = "timezone_chosen"
CHOICE_IS_KEPT_FOR_SECONDS = 400 * 24 * 3600  # as long as browsers keep a cookie at most


@functools.cache
def known_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def zone_of(cookies: Mapping[str, str]) -> zoneinfo.ZoneInfo | None:
    """Return the zone of a reader, None where nothing known is named."""
    for name in (cookies.get(CHOSEN, ""), cookies.get(OF_THE_BROWSER, "")):
        if name in known_zones():
            return zoneinfo.ZoneInfo(name)
    return None


def keep_choice(response: HttpResponseBase, zone: str, *, is_secure: bool) -> None:
    """Have a browser use a zone from now on; with an empty one, its own again."""
    if zone:
        response.set_cookie(CHOSEN, zone, CHOICE_IS_KEPT_FOR_SECONDS, secure=is_secure, httponly=True, samesite="Lax")
    else:
        response.delete_cookie(CHOSEN, samesite="Lax")


@async_only_middleware
def in_the_readers_zone(get_response: GetResponse) -> GetResponse:
    """Write the times of a page in its reader's zone; those of the API are in UTC."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        with timezone.override(None if wants_json(request) else zone_of(request.COOKIES)):
            return await get_response(request)

    markcoroutinefunction(middleware)
    return middleware
