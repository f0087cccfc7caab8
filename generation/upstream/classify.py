"""Which fault it is: the only place that decides by status codes, error codes and words of providers.

Servers that speak OpenAI's protocol agree on the form of a text and on nothing else. So status, code and words are
looked at together: first what is said plainly by code, then the words, then the status.
"""

import email.utils
import errno
import math
import re
import socket
from collections.abc import Mapping

import aiohttp
import httpx2
import openai
from django.utils import timezone

from generation.upstream import wishes
from generation.upstream.faults import UpstreamFault
from generation.upstream.refusals import Refusal, read

_CODES = {
    "invalid_api_key": "provider_unauthorized",
    "authentication_error": "provider_unauthorized",
    "insufficient_quota": "quota_exhausted",
    "billing_hard_limit_reached": "quota_exhausted",
    "model_not_found": "model_not_available",
    "deploymentnotfound": "model_not_available",
    "modelnotfound": "model_not_available",
    "rate_limit_exceeded": "rate_limited",
    "rate_limit_error": "rate_limited",
    "resource_exhausted": "rate_limited",
    "overloaded_error": "provider_error",
    "context_length_exceeded": "context_too_long",
    "exceed_context_size_error": "context_too_long",
    "content_filter": "content_filtered",
    "content_policy_violation": "content_filtered",
    "responsibleaipolicyviolation": "content_filtered",
    "data_inspection_failed": "content_filtered",
}

_CONTEXT = re.compile(
    r"maximum context length|context[ _](length|window|size)|max_model_len|n_ctx|too many (input |prompt )?tokens"
    r"|(prompt|input|request)( is|s are)? too (long|large)|exceeds? the (maximum|limit).{0,20}tokens"
)

# Looked for in this order, in what came with a status of the first part.
_WORDS: list[tuple[range | set[int], str, str]] = [
    (
        {200, 400, 404, 405, 501},
        r"unexpected endpoint|invalid url|no route|cannot post|page not found|no static resource"
        r"|unknown (path|endpoint|route)",
        "wrong_address",
    ),
    ({402}, r"fewer max_tokens|can only afford", "too_expensive"),
    (
        range(400, 500),
        r"credit balance|insufficient (balance|credit|funds)|insufficient_quota|billing (hard )?limit|out of credits",
        "quota_exhausted",
    ),
    (
        {400, 403, 404, 422, 500},
        r"(no|invalid|incorrect|wrong|missing|expired|malformed|bad|revoked)[^.]{0,24}(api[ _-]?key|credentials)"
        r"|(api[ _-]?key|credentials)[^.]{0,40}(invalid|incorrect|not valid|missing|expired|wrong|not found|revoked)"
        r"|unauthenticated|unauthorized|authentication (error|failed)|authenticationerror",
        "provider_unauthorized",
    ),
    (
        {400, 403, 422, 451},
        r"flagged|moderation|content[ _](policy|management|filter)|safety (system|filter|settings)|sensitive|prohibited"
        r"|usage policies",
        "content_filtered",
    ),
    (
        {400, 403, 404, 422, 500, 503},
        r"model[^.]{0,80}(not found|not exist|unknown|invalid|not available|unavailable|not supported|not valid"
        r"|no access|not have access|not loaded|not allowed|is disabled|decommissioned|deprecated|retired)"
        r"|(unknown|invalid|unsupported|no such|not find|not a valid) model"
        r"|no (allowed providers|endpoints|healthy deployments)"
        r"|access to( the)? model|(pull|download|load)[^.]{0,30}model first|deployment[^.]{0,60}not exist",
        "model_not_available",
    ),
]
_COMPILED = [(statuses, re.compile(pattern), code) for statuses, pattern, code in _WORDS]


def was_never_sent(error: Exception) -> bool:
    """Return whether a request failed because its connection, one that was used before, was being closed already."""
    cause = _first_cause(error)
    return isinstance(cause, aiohttp.ClientConnectionResetError) and str(cause) == "Cannot write to closing transport"


def classify(error: Exception, *, base_url: str) -> UpstreamFault:
    """Return what an exception of the openai package or of its transport means."""
    match error:
        case openai.APIStatusError():
            return _of_status(error, base_url)
        case _:
            cause = _first_cause(error)
            name = type(cause).__name__
            return UpstreamFault(_code_for_cause(cause), f"{name}: {cause}", label=name)


def _of_status(error: openai.APIStatusError, base_url: str) -> UpstreamFault:
    headers = error.response.headers
    # The package takes the error out of its object.
    refusal = read({"error": error.body} if isinstance(error.body, Mapping) else error.body)
    fault = of_refusal(refusal, status=error.status_code, base_url=base_url, location=headers.get("location", ""))
    fault.request_id = (error.request_id or "")[:120]
    fault.retry_after = _retry_after(headers)
    return fault


def of_refusal(refusal: Refusal, *, status: int, base_url: str, location: str = "") -> UpstreamFault:
    """Return what an error means that a provider sent with a status, or in the middle of a stream with 200."""
    effective = refusal.status if status == 200 and refusal.status else status
    code = _code_said(refusal)
    wish = "" if code else wishes.refused_by(refusal, status=effective)
    code = code or ("request_refused" if wish else _code_for(refusal, status=effective))
    named = (("status", str(status)), ("code", refusal.code), ("param", refusal.param))
    label = ", ".join(f"{name} {value}" for name, value in named if value)[:120]
    if code == "wrong_address":
        label += f": {_address_hint(base_url, location)}"
    reason = f"{status} {refusal.message}" if code != "wrong_address" else f"{label}. {refusal.message}"
    return UpstreamFault(code, reason.strip(), label=label, status=status, refused_wish=wish)


def _address_hint(base_url: str, location: str) -> str:
    address = base_url.partition("?")[0].rstrip("/")
    if location:
        return f"{address} leads on to {location[:100]}, write the address it leads to"
    if re.search(r"/v\d", address):
        return f"nothing takes chats at {address}/chat/completions"
    return f"looks like the path is missing /v1 at the end of {address}"


def _code_said(refusal: Refusal) -> str:
    """Return the fault that is said plainly, empty where none is."""
    said = [_CODES[name.lower()] for name in (refusal.code, refusal.type) if name.lower() in _CODES]
    if said:
        return said[0]
    return "context_too_long" if _CONTEXT.search(refusal.words) else ""


def _code_for(refusal: Refusal, *, status: int) -> str:
    if refusal.is_page and status != 401:
        return _code_for_page(status)
    for statuses, pattern, code in _COMPILED:
        if (status == 200 or status in statuses) and pattern.search(refusal.words):
            return code
    return _code_for_status(status)


def _code_for_page(status: int) -> str:
    """What a web page means where an API was expected: another part of a site, or what stands in front of one."""
    if status == 200:
        return "broken_stream"
    if status in {404, 405} or status < 400:
        return "wrong_address"
    return "rate_limited" if status == 429 else "provider_unreachable"


def _code_for_status(status: int) -> str:
    match status:
        case 401 | 403 | 407:
            return "provider_unauthorized"
        case 402:
            return "quota_exhausted"
        case 404 | 405:
            return "wrong_address"
        case 429:
            return "rate_limited"
        case _ if 300 <= status < 400:
            return "wrong_address"
        case 408 | 409 | 425:
            return "provider_error"
        case _ if status >= 500:
            return "provider_error"
        case 200:
            return "broken_stream"
        case _:
            return "request_refused"


def _first_cause(error: BaseException) -> BaseException:
    """Return what really happened: on the way up, a dropped connection is renamed to a time-out while connecting."""
    while error.__cause__ is not None and not isinstance(error, aiohttp.ClientConnectorError):
        error = error.__cause__
    return error


def _code_for_cause(cause: BaseException) -> str:
    match cause:
        case aiohttp.ClientConnectorError() if cause.errno in {errno.EMFILE, errno.ENFILE}:
            return "no_connection_free"
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError() | ConnectionRefusedError():
            return "provider_unreachable"
        case socket.gaierror():
            return "provider_unreachable"
        case TimeoutError() | httpx2.TimeoutException():
            return "provider_timeout"
        case _:
            return "broken_stream"


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Return for how many seconds a provider asks to wait, which it says in seconds, milliseconds, or as a date."""
    milliseconds, value = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    for text, factor in ((milliseconds, 0.001), (value, 1.0)):
        try:
            seconds = float(text) * factor
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - timezone.now()).total_seconds())
    except (ValueError, TypeError):
        return None
