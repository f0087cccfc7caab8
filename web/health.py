"""For load balancers and supervisors, who ask by address, over http, with GET or HEAD."""

import asyncio

import redis
from asgiref.sync import markcoroutinefunction, sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.utils.decorators import async_only_middleware

from web.database import try_a_write
from web.middleware import GetResponse

REDIS_SECONDS = 2.0
# Less than balancers wait. A pool of connections to a database that is down keeps whoever asks for half a minute.
READY_SECONDS = 4.0


@async_only_middleware
def answer_supervisors(get_response: GetResponse) -> GetResponse:
    """Answer /healthz and /readyz before anything looks at the host, the scheme or a session."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path not in {"/healthz", "/readyz"}:
            return await get_response(request)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        try:
            async with asyncio.timeout(READY_SECONDS):
                response = alive() if request.path == "/healthz" else await sync_to_async(ready)()
        except TimeoutError:
            response = unready("the database does not answer")
        response["Content-Length"] = str(len(response.content))
        response["Cache-Control"] = "no-store"
        return response

    markcoroutinefunction(middleware)
    return middleware


def alive() -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


def ready() -> HttpResponse:
    """Return whether the database answers and takes writes, and Redis answers where it is used."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return unready("the database does not answer")
    try:
        try_a_write()
    except DatabaseError:
        return unready("the database takes no writes")
    try:
        if settings.REDIS_URL:
            with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=REDIS_SECONDS) as client:
                client.ping()
    except redis.RedisError:
        return unready("Redis does not answer")
    return HttpResponse("ok\n", content_type="text/plain")


def unready(why: str) -> HttpResponse:
    return HttpResponse(f"{why}\n", status=503, content_type="text/plain")
