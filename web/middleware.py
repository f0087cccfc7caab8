import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from asgiref.sync import markcoroutinefunction, sync_to_async
from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponseBase, HttpResponsePermanentRedirect
from django.middleware.common import CommonMiddleware
from django.middleware.locale import LocaleMiddleware
from django.urls import is_valid_path
from django.utils.decorators import async_only_middleware
from django.utils.deprecation import MiddlewareMixin
from django.utils.http import escape_leading_slashes

from web.problems import wants_json

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@async_only_middleware
def not_stored_by_default(get_response: GetResponse) -> GetResponse:
    """Forbid caches to keep what did not say it may be kept: most of what this site answers is personal."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    markcoroutinefunction(middleware)
    return middleware


class OnTheLoop(MiddlewareMixin):
    """Mixed in before a middleware of Django's kind, has its steps run on the event loop.

    Django sends each step to the request's thread and waits for it, which costs several times as much as what the step
    does. This is for those that look at headers and cookies only; `needs_thread` says when a response wants more.
    """

    def needs_thread(self, request: HttpRequest) -> bool:
        return False

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        prepare, finish = getattr(self, "process_request", None), getattr(self, "process_response", None)
        response: HttpResponseBase = (prepare and prepare(request)) or await self.get_response(request)  # type: ignore[misc]  # asynchronous here
        if finish is None:
            return response
        if self.needs_thread(request):
            finish = sync_to_async(finish)
            finished: HttpResponseBase = await finish(request, response)
        else:
            finished = finish(request, response)
        return finished


class Policy(OnTheLoop, CSPMiddleware):
    pass


class Language(OnTheLoop, LocaleMiddleware):
    pass


class Common(OnTheLoop, CommonMiddleware):
    """Also lead a page's address with a slash too many or too few at its end to where it means.

    Pages have no slash at the end, the admin and allauth have one. Addresses of the API are exact.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.status_code == 404 and request.method in {"GET", "HEAD"}:
            meant = None if wants_json(request) else _meant(request.path)
            if meant is not None:
                query = request.META["QUERY_STRING"]
                response = HttpResponsePermanentRedirect(escape_leading_slashes(quote(meant)) + (query and f"?{query}"))
        if request.method == "HEAD" and not getattr(response, "content", None):
            return response  # whoever answered without a body did not know its length
        return super().process_response(request, response)


def _meant(path: str) -> str | None:
    """Return the page's address that differs from `path` in the slashes at its end alone."""
    bare = path.rstrip("/")
    for other in (bare, f"{bare}/"):
        match = bare and other != path and is_valid_path(other)
        # Not the view that the admin keeps for everything it does not know.
        if match and getattr(match.func, "should_append_slash", True):
            return other
    return None


class Person(OnTheLoop, AuthenticationMiddleware):
    pass


# What Django makes. Inside quotes a cookie can hold any character, and PostgreSQL fails on \0.
SESSION_KEY = re.compile("[a-z0-9]+")


class Session(OnTheLoop, SessionMiddleware):
    def process_request(self, request: HttpRequest) -> None:
        name = settings.SESSION_COOKIE_NAME
        if name in request.COOKIES and not SESSION_KEY.fullmatch(request.COOKIES[name]):
            del request.COOKIES[name]
        super().process_request(request)

    def needs_thread(self, request: HttpRequest) -> bool:
        return bool(request.session.modified)
