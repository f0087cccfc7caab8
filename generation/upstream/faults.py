"""What can go wrong at a provider, and what each fault means. One table; nothing else decides by status code."""

import email.utils
import errno
import math
import re
import socket
from dataclasses import dataclass
from enum import Enum

import aiohttp
import httpx2
import openai
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from web.hiding import without_secrets
from web.logs import visible

MINUTE = 60.0
HOUR = 3600.0
# However long a provider asks to wait, or a row of failures becomes: after this it is probed.
LONGEST_COOLDOWN_SECONDS = HOUR
LONGEST_GROWN_COOLDOWN_SECONDS = 5 * MINUTE


class Blames(Enum):
    """Whom a fault speaks against: nobody else cools down for it."""

    NOBODY = "nobody"
    CANDIDATE = "this key with this model"
    KEY = "this key with every model"
    PROVIDER = "every candidate of this provider"


@dataclass(frozen=True, slots=True)
class Fault:
    """`retryable` says whether a person who asks again may help, without anybody changing anything.

    Who is blamed cools down for `cooldown_seconds`, or for as long as the provider said; each further failure in a row
    doubles a `growing` cooldown.
    """

    message: str | Promise
    retryable: bool
    blames: Blames = Blames.NOBODY
    cooldown_seconds: float = 0.0
    growing: bool = False
    # What a client that waits for the whole text is answered.
    status: int = 502


_ACCESS = _("The language model refuses access at the moment. Whoever runs this site has to look at its key.")
_MODEL = _("This model is not available with the keys of this site.")
_BUSY = _("The language model has too much to do. Wait a moment and try again.")
_BROKEN = _("The language model broke off in the middle of the text. Try again.")
_LATE = _("The language model did not answer in time. Try again.")
_DOWN = _("The language model cannot be reached. Try again in a moment.")
_REFUSED = _("The language model would not write this text.")
_FULL = _("This server writes as many texts as it can at once. Try again in a moment.")

FAULTS = {
    "provider_unauthorized": Fault(_ACCESS, False, Blames.KEY, 10 * MINUTE),
    "model_not_available": Fault(_MODEL, False, Blames.CANDIDATE, 10 * MINUTE),
    "rate_limited": Fault(_BUSY, True, Blames.CANDIDATE, 10.0, growing=True),
    "quota_exhausted": Fault(_ACCESS, False, Blames.KEY, HOUR),
    "provider_error": Fault(_DOWN, True, Blames.CANDIDATE, 5.0, growing=True),
    "provider_unreachable": Fault(_DOWN, True, Blames.PROVIDER, 5.0, growing=True),
    "provider_timeout": Fault(_LATE, True, Blames.CANDIDATE, 5.0, growing=True),
    "broken_stream": Fault(_BROKEN, True, Blames.CANDIDATE, 5.0, growing=True),
    "took_too_long": Fault(_LATE, retryable=True),
    "context_too_long": Fault(_REFUSED, retryable=False),
    "content_filtered": Fault(_REFUSED, retryable=True),
    "request_refused": Fault(_REFUSED, retryable=False),
    "no_connection_free": Fault(_FULL, retryable=True, status=503),
    "interrupted": Fault(_("The writing was interrupted. Try again."), retryable=True),
    "database_unavailable": Fault(
        _("This site can store nothing at the moment, so the text stops here. Try again in a moment."),
        retryable=True,
        status=503,
    ),
    "cancelled": Fault(_("You stopped the text. What was written is kept."), retryable=True),
    "budget_exhausted": Fault(
        _("What the language model may write in a day is used up. Tomorrow it writes again."),
        retryable=False,
        status=429,
    ),
}


# A provider may send the whole request back as its reason; what it says first is what matters.
LONGEST_REASON = 300


class UpstreamFault(Exception):
    """A text that was not generated. `code` is a key of FAULTS; the message is the provider's reason, free of keys.

    `label` names status and error code alone, for the log: a reason may quote the prompt. `retry_after` is in seconds.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        *,
        label: str = "",
        status: int | None = None,
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(without_keys(reason)[:LONGEST_REASON])
        self.code = code
        self.label = without_keys(label)
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def fault(self) -> Fault:
        return FAULTS[self.code]

    @property
    def was_answered(self) -> bool:
        """Whether the provider said anything at all."""
        return self.status is not None

    @property
    def was_refused(self) -> bool:
        """Whether the provider never began, so that nothing was spent."""
        return self.status not in {None, 200} or self.code in {"provider_unreachable", "no_connection_free"}


_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:(?:sk|pk|rk)-|Bearer )[\w*-]{6,}")


def without_keys(text: str) -> str:
    """Return a text without secrets of ours and whatever else looks like a key; control characters become escapes."""
    return visible(_LOOKS_LIKE_A_KEY.sub("[key]", without_secrets(text)))


def classify(error: Exception) -> UpstreamFault:
    """Return what an exception of the openai package or of its transport means."""
    match error:
        case openai.APIStatusError():
            label = f"status {error.status_code}, code {error.code}, param {error.param}"
            return UpstreamFault(
                _code_for_status(error),
                f"{error.status_code} {error.message}",
                label=without_keys(label)[:120],
                status=error.status_code,
                request_id=(error.request_id or "")[:120],
                retry_after=_retry_after(error.response.headers),
            )
        case _:
            cause = _first_cause(error)
            name = type(cause).__name__
            return UpstreamFault(_code_for_cause(cause), f"{name}: {cause}", label=name)


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


def _code_for_status(error: openai.APIStatusError) -> str:
    match error.status_code, error.code:
        case 401, _:
            return "provider_unauthorized"
        case 403, code if code != "model_not_found" and "model" not in error.message.lower():
            return "provider_unauthorized"
        case 403 | 404, _:
            return "model_not_available"
        case 429 | 402, "insufficient_quota":
            return "quota_exhausted"
        case 402, _:
            return "quota_exhausted"
        case 429, _:
            return "rate_limited"
        case 400, "context_length_exceeded":
            return "context_too_long"
        case 400, "content_filter" | "content_policy_violation":
            return "content_filtered"
        case status, _ if status >= 500 or status == 408:
            return "provider_error"
        case _:
            return "request_refused"


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
