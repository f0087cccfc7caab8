"""The headers that tell browsers what this site never does, for every answer whoever made it."""

from collections.abc import Iterable
from io import BytesIO

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware

Headers = list[tuple[bytes, bytes]]


def policy(*, secure: bool) -> Headers:
    """Return what the settings say every answer carries; `secure` for one that goes out over https.

    The middleware that puts these on most answers is asked for them, so they are the same where it was never reached:
    a request that was refused before it or a failure around it.
    """

    def no_answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    scheme = "https" if secure else "http"
    request = ASGIRequest({"type": "http", "method": "GET", "path": "/", "scheme": scheme, "headers": []}, BytesIO())
    response = HttpResponse(headers={"Permissions-Policy": settings.PERMISSIONS_POLICY})
    XFrameOptionsMiddleware(no_answer).process_response(request, response)
    SecurityMiddleware(no_answer).process_response(request, response)
    if not settings.DEBUG:  # Django's own error pages have their styles inside, and the middleware spares them
        CSPMiddleware(no_answer).process_response(request, response)
    del response["Content-Type"]
    return [(name.lower().encode(), value.encode()) for name, value in response.items()]


def missing(wanted: Headers, there: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers of `wanted` that an answer does not have yet; ASGI has their names in lower case."""
    names = {name.lower() for name, _ in there}
    return [header for header in wanted if header[0] not in names]
