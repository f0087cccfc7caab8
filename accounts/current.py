"""Who asks."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from accounts.models import User
from accounts.tokens import token_of
from web.problems import NOT_SIGNED_IN, Problem


def signed_in(request: HttpRequest | Request) -> User:
    """Return the person logged in, a guest included.

    Raises:
        Problem: 401 when there is none.
    """
    user = request.user
    if not user.is_authenticated:
        raise Problem(NOT_SIGNED_IN, code="not_authenticated", status=401)
    return user


async def asigned_in(request: HttpRequest) -> User:
    """Return the person logged in, as `signed_in` does, on the event loop."""
    user = await request.auser()
    if not user.is_authenticated:
        raise Problem(NOT_SIGNED_IN, code="not_authenticated", status=401)
    return user


def is_cross_site(request: HttpRequest | Request) -> bool:
    """Return whether a page of another origin made the browser ask.

    A neighbour under the same domain, or another port of the same host, is `same-site`: its requests carry the cookie
    of this site, and it is as foreign as any.
    """
    return request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}


def is_prefetch(request: HttpRequest | Request) -> bool:
    """Return whether the browser asks ahead of time, for a page that the person may never open."""
    return any("prefetch" in request.headers.get(name, "").lower() for name in ("Sec-Purpose", "Purpose", "X-Moz"))


def is_opened(request: HttpRequest) -> bool:
    """Return whether a person has opened this page, as far as a request can tell."""
    return request.method == "GET" and not is_prefetch(request)


def refuse_cross_site(request: HttpRequest | Request) -> None:
    """Refuse a GET that nobody asked for, because it would start and spend something: one that a page of another
    origin made with the learner's cookie, or that the browser made ahead of time.

    Raises:
        Problem: 403 unless the origin is listed in CORS_ORIGINS or the request is authenticated by a token; 503 for a
            prefetch.
    """
    if is_prefetch(request):
        raise Problem(_("This address is not fetched ahead of time."), code="prefetch", status=503, retry_after=1)
    if not is_cross_site(request) or token_of(request):
        return
    if request.headers.get("Origin") not in settings.CORS_ALLOWED_ORIGINS:
        raise Problem(
            _("This address may not be asked from another site. The operator can allow it in CORS_ORIGINS."),
            code="cross_site",
            status=403,
        )
