"""Who asks."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from accounts.models import User
from simulator.problems import NOT_SIGNED_IN, Problem


def signed_in(request: HttpRequest | Request) -> User:
    """Give the person logged in, a guest included.

    Raises:
        Problem: 401 when there is none.
    """
    user = request.user
    if not user.is_authenticated:
        raise Problem(NOT_SIGNED_IN, code="not_authenticated", status=401)
    return user


async def asigned_in(request: HttpRequest) -> User:
    """Do what `signed_in` does, on the event loop."""
    user = await request.auser()
    if not user.is_authenticated:
        raise Problem(NOT_SIGNED_IN, code="not_authenticated", status=401)
    return user


def is_cross_site(request: HttpRequest | Request) -> bool:
    """Say whether another site's page made the browser ask."""
    return request.headers.get("Sec-Fetch-Site") == "cross-site"


def starts_nothing(request: HttpRequest | Request) -> bool:
    """Return whether the answer must begin no text: to HEAD, or when another site's page made the browser ask."""
    return request.method != "GET" or is_cross_site(request)


def refuse_cross_site(request: HttpRequest | Request) -> None:
    """Refuse a GET that another site's page made with the learner's cookie: it would start and spend something.

    Raises:
        Problem: 403 unless the origin is listed in CORS_ORIGINS or the request carries a token.
    """
    if not is_cross_site(request) or "Authorization" in request.headers:
        return
    if request.headers.get("Origin") not in settings.CORS_ALLOWED_ORIGINS:
        raise Problem(
            _("This address may not be asked from another site. The operator can allow it in CORS_ORIGINS."),
            code="cross_site",
            status=403,
        )
