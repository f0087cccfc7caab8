"""Which requests this site answers at all: those to a host of its own, with a method that HTTP has for them."""

import logging

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import render
from django.utils import translation
from django.utils.decorators import async_only_middleware
from django.utils.log import log_response
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from web.middleware import GetResponse
from web.problems import Problem, as_json, wants_json

logger = logging.getLogger("web.hosts")

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
LONGEST_HOST_SHOWN = 100


@async_only_middleware
def known_methods_only(get_response: GetResponse) -> GetResponse:
    """Refuse TRACE, PROPFIND and their like, which a plain Django view would answer as it answers GET."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.method in METHODS:
            return await get_response(request)
        if not wants_json(request):
            return HttpResponseNotAllowed(METHODS)
        message = _("No address of this site answers this method.")
        response = as_json(Problem(message, code="method_not_allowed", status=405))
        response["Allow"] = ", ".join(METHODS)
        return response

    markcoroutinefunction(middleware)
    return middleware


@async_only_middleware
def own_host_only(get_response: GetResponse) -> GetResponse:
    """Refuse a request to another host with where this site is, and log it in one line."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        try:
            request.get_host()
        except DisallowedHost:
            return await sync_to_async(_refuse, thread_sensitive=False)(request)
        return await get_response(request)

    markcoroutinefunction(middleware)
    return middleware


def wrong_host() -> Problem:
    # Lazily, so that `detail` is English whatever the visitor reads.
    return Problem(format_lazy(_("This site answers at {url}."), url=settings.SITE_URL), code="wrong_host")


def _refuse(request: HttpRequest) -> HttpResponse:
    host = request.headers.get("Host", "")
    shown = host if len(host) <= LONGEST_HOST_SHOWN else f"{host[:LONGEST_HOST_SHOWN]}..."
    # A page without anybody's session, because cookies are the host's as well.
    with translation.override(translation.get_language_from_request(request)):
        if wants_json(request):
            response: HttpResponse = as_json(wrong_host())
        else:
            response = render(request, "wrong_host.html", {"site_url": settings.SITE_URL, "host": shown}, status=400)
            response["Cache-Control"] = "no-store"
    log_response(  # instead of Django's own line, which has no host
        "Refused a request to the host %s; this site answers at %s",
        shown,
        settings.SITE_URL,
        response=response,
        request=request,
        logger=logger,
    )
    return response
