"""Refusals and failures, in the one shape the contract gives them.

    {"code": "already_submitted", "detail": "<English>", "message": "<the user's language>", "fields": {...}}

`fields` only for bad input. Django views, streams and DRF views all answer through this module.
"""

import functools
import json
import math
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, ParamSpec

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.utils import translation
from django.utils.functional import Promise
from django.utils.http import parse_header_parameters
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions as drf
from rest_framework.request import Request

from web.database import RETRY_SECONDS, is_unavailable

_API_PREFIXES = ("/api/", "/admin/api/")

Text = str | Promise
Fields = Mapping[str, list[str]]
P = ParamSpec("P")
AsyncView = Callable[Concatenate[HttpRequest, P], Coroutine[Any, Any, HttpResponseBase]]


class Problem(Exception):
    """A request that cannot be answered as asked; raised anywhere below a door, answered by the door.

    `message` is a sentence for the person, translatable; `retry_after` is in seconds.
    """

    status = 400
    code = "bad_request"

    def __init__(
        self,
        message: Text,
        *,
        code: str | None = None,
        status: int | None = None,
        fields: Fields | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(str(message))
        self.message = message
        self.code = code or self.code
        self.status = status or self.status
        self.fields = fields
        self.retry_after = retry_after

    def body(self) -> dict[str, object]:
        body: dict[str, object] = {"code": self.code, **in_both_languages(self.message)}
        if self.fields is not None:
            body["fields"] = self.fields
        return body


class Conflict(Problem):
    """409: right person, wrong step."""

    status = 409
    code = "wrong_step"


def in_both_languages(message: Text) -> dict[str, str]:
    """Return `detail` in English and `message` in the language of the request."""
    with translation.override("en"):
        detail = str(message)
    return {"detail": detail, "message": str(message)}


NOT_SIGNED_IN = _("Log in first, or send a token as “Authorization: Bearer …”.")
FORBIDDEN = _("You may not do this.")
NOT_FOUND = _("There is nothing here, or it belongs to somebody else.")
CSRF_FAILED = _("The form's security token is missing or out of date. Reload the page and try again.")
PARSE_ERROR = _("The body is not JSON. Send one JSON object in UTF-8.")
HALF_CHARACTER = _("The body holds half a surrogate pair, such as \\ud800, which is no character. Send whole ones.")
NOT_AN_OBJECT = _("Send one JSON object with “Content-Type: application/json”.")
WRONG_METHOD = _("This address does not take this method; “Allow” lists those it takes.")
NOT_UNDERSTOOD = _("The request cannot be understood.")
INVALID = _("Some of what you sent cannot be used.")
TOO_LARGE = _("What you sent is too large.")
BROKEN = _("Something went wrong on our side. What was accepted before is kept; try again in a moment.")
NO_DATABASE = _(
    "This site can store nothing at the moment, so what you just sent was not accepted. Try again in a moment."
)


def wrong_method() -> Problem:
    return Problem(WRONG_METHOD, code="method_not_allowed", status=405)


def invalid_token() -> Problem:
    message = _("The token is unknown, revoked or expired. Make a new one on your account page.")
    return Problem(message, code="invalid_token", status=401)


def from_exception(exception: Exception) -> Problem | None:
    """Return the problem that an exception of Django or DRF is; None for one that is a bug of ours."""
    match exception:
        case Problem():
            return exception
        case Http404():
            return Problem(NOT_FOUND, code="not_found", status=404)
        case PermissionDenied():
            return Problem(FORBIDDEN, code="forbidden", status=403)
        case drf.APIException():
            return _from_drf(exception)
        case _:
            return None


def _from_drf(exception: drf.APIException) -> Problem:
    """Return DRF's refusals in our own words: its exceptions hold theirs translated already, without the English."""
    match exception:
        case drf.NotAuthenticated():
            return Problem(NOT_SIGNED_IN, code="not_authenticated", status=401)
        case drf.AuthenticationFailed():
            return invalid_token()
        case drf.PermissionDenied() if str(exception.detail).startswith("CSRF Failed"):
            return Problem(CSRF_FAILED, code="csrf_failed", status=403)
        case drf.PermissionDenied():
            return Problem(FORBIDDEN, code="forbidden", status=403)
        case drf.NotFound():
            return Problem(NOT_FOUND, code="not_found", status=404)
        case drf.ValidationError():
            return Problem(INVALID, code="invalid", fields=_fields(exception.detail))
        case drf.MethodNotAllowed():
            return wrong_method()
        case _:
            return Problem(NOT_UNDERSTOOD, status=exception.status_code)


def _fields(detail: Any) -> Fields:
    """Return the sentences of a validation error by the name of their field, such as `models.0` for one of a list."""
    found: dict[str, list[str]] = {}

    def add(name: str, part: Any) -> None:
        if isinstance(part, Mapping):
            for key, inner in part.items():
                add(f"{name}.{key}" if name else str(key), inner)
        elif isinstance(part, list):
            for inner in part:
                add(name, inner)
        else:
            found.setdefault(name or "non_field_errors", []).append(str(part))

    add("", detail)
    return found


def as_response(exception: Exception, context: Mapping[str, object]) -> HttpResponse | None:
    """DRF's exception handler; None lets Django make a 500 of it."""
    problem = from_exception(exception)
    return None if problem is None else as_json(problem)


def as_json(problem: Problem) -> JsonResponse:
    response = JsonResponse(problem.body(), status=problem.status, json_dumps_params={"ensure_ascii": False})
    if problem.retry_after is not None:
        response["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    response["Cache-Control"] = "no-store"
    return response


def json_view(method: str) -> Callable[[AsyncView[P]], AsyncView[P]]:
    """Make an asynchronous Django view answer one method, and let it raise what a DRF view may raise.

    A view for GET gets HEAD too, and starts nothing for it.
    """
    methods = [method, "HEAD"] if method == "GET" else [method]

    def decorate(view: AsyncView[P]) -> AsyncView[P]:
        @functools.wraps(view)
        async def answered(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            try:
                if request.method == "OPTIONS":
                    return HttpResponse(headers={"Allow": ", ".join([*methods, "OPTIONS"])})
                if request.method not in methods:
                    raise wrong_method()
                return await view(request, *args, **kwargs)
            except (Problem, Http404, PermissionDenied, drf.APIException) as exception:
                problem = from_exception(exception)
                if problem is None:
                    raise
                response = as_json(problem)
                if problem.status == 405:
                    response["Allow"] = ", ".join([*methods, "OPTIONS"])
                return response

        return answered  # type: ignore[return-value]  # functools.wraps hides the parameters

    return decorate


def json_body(request: HttpRequest | Request) -> dict[str, object]:
    """Read the JSON object in the body of a request; the one way for Django's views and DRF's, so that twins agree.

    Raises: Problem: 415 for anything but unpacked JSON in UTF-8, 400 for what is not one object of whole characters.
    """
    media_type, parameters = parse_header_parameters(request.headers.get("Content-Type", ""))
    is_packed = request.headers.get("Content-Encoding", "identity").lower() != "identity"
    if media_type != "application/json" or parameters.get("charset", "utf-8").lower() != "utf-8" or is_packed:
        raise Problem(NOT_AN_OBJECT, code="unsupported_media_type", status=415)
    body = parse_json(request.body)
    if not isinstance(body, dict):
        raise _unusable(NOT_AN_OBJECT)
    return body


def parse_json(data: bytes) -> object:
    """Parse JSON as the standard has it, and only what every reader of it reads alike.

    Raises: Problem: 400 for NaN and numbers beyond any float, a name that occurs twice in an object, a depth that
    exhausts the interpreter, and half a surrogate pair.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_without_duplicates,
        )
    except (ValueError, RecursionError) as error:
        raise Problem(PARSE_ERROR, code="parse_error") from error
    if b"\\u" in data:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise _unusable(HALF_CHARACTER) from error
    return value


def _unusable(message: Text) -> Problem:
    return Problem(message, code="invalid", fields={"non_field_errors": [str(message)]})


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond any float")
    return number


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def nothing_here(request: HttpRequest, address: str) -> HttpResponse:
    raise Http404


def wants_json(request: HttpRequest) -> bool:
    """Return whether the API is asked, whose answers are JSON and whose addresses are exact."""
    return f"{request.path}/".startswith(_API_PREFIXES)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if wants_json(request):
        return as_json(Problem(CSRF_FAILED, code="csrf_failed", status=403))
    return render(request, "403_csrf.html", {"fields": _fields_to_send_again(request)}, status=403)


def _fields_to_send_again(request: HttpRequest) -> list[tuple[str, str]] | None:
    """Return what a form of this site held, so that nothing typed is lost; None where it is not to be shown again.

    That is a password, and whatever a page of another origin sent.
    """
    if request.headers.get("Origin") != f"{request.scheme}://{request.get_host()}":
        return None
    fields = [(name, value) for name, values in request.POST.lists() for value in values]
    if any("password" in name.lower() for name, _value in fields):
        return None
    return [(name, value) for name, value in fields if name != "csrfmiddlewaretoken"]


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    is_too_large = isinstance(exception, RequestDataTooBig)
    if wants_json(request):
        if is_too_large:
            return as_json(Problem(TOO_LARGE, code="too_large", status=413))
        return as_json(Problem(NOT_UNDERSTOOD))
    return render(request, "400.html", status=413 if is_too_large else 400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if wants_json(request):
        return as_json(Problem(FORBIDDEN, code="forbidden", status=403))
    return render(request, "403.html", status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if wants_json(request):
        return as_json(Problem(NOT_FOUND, code="not_found", status=404))
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for an error that nobody caught: Django calls this while it handles it."""
    if is_unavailable(sys.exc_info()[1]):
        return database_unavailable(request)
    if wants_json(request):
        return as_json(Problem(BROKEN, code="server_error", status=500))
    return render(request, "500.html", status=500)


def database_unavailable(request: HttpRequest) -> HttpResponse:
    problem = Problem(NO_DATABASE, code="database_unavailable", status=503, retry_after=RETRY_SECONDS)
    if wants_json(request):
        return as_json(problem)
    context = {"message": NO_DATABASE, "fields": _fields_to_send_again(request) if request.method == "POST" else None}
    response = render(request, "503.html", context, status=503)
    response["Retry-After"] = str(RETRY_SECONDS)
    return response
