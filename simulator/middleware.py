from collections.abc import Awaitable, Callable

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@async_only_middleware
def not_stored_by_default(get_response: GetResponse) -> GetResponse:
    """Tell caches to keep nothing that did not say it may be kept: most of what this site answers is personal."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    markcoroutinefunction(middleware)
    return middleware
