"""Which requests may start something."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from simulator.problems import Problem


def refuse_cross_site(request: HttpRequest | Request) -> None:
    """Refuse a GET that another site's page made with the learner's cookie: it would start and spend something.

    Raises:
        Problem: 403 unless the origin is listed in CORS_ORIGINS or the request carries a token.
    """
    if request.headers.get("Sec-Fetch-Site") != "cross-site" or "Authorization" in request.headers:
        return
    if request.headers.get("Origin") not in settings.CORS_ALLOWED_ORIGINS:
        raise Problem(
            _("This address may not be asked from another site. The operator can allow it in CORS_ORIGINS."),
            code="cross_site",
            status=403,
        )
