"""What can go wrong at a provider, and what each fault means. One table; nothing else decides by status code."""

import re
import socket
from dataclasses import dataclass

import aiohttp
import httpx2
import openai
from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Fault:
    """`retryable` says whether asking again may help without anybody changing anything."""

    message: str | Promise
    retryable: bool


_ACCESS = _("The language model refuses access at the moment. Whoever runs this site has to look at its key.")
_BUSY = _("The language model has too much to do. Wait a moment and try again.")
_BROKEN = _("The language model broke off in the middle of the text. Try again.")
_LATE = _("The language model did not answer in time. Try again.")
_DOWN = _("The language model cannot be reached. Try again in a moment.")
_REFUSED = _("The language model would not write this text.")

FAULTS = {
    "provider_unauthorized": Fault(_ACCESS, retryable=False),
    "model_not_available": Fault(_ACCESS, retryable=False),
    "rate_limited": Fault(_BUSY, retryable=True),
    "quota_exhausted": Fault(_ACCESS, retryable=False),
    "provider_error": Fault(_DOWN, retryable=True),
    "provider_unreachable": Fault(_DOWN, retryable=True),
    "provider_timeout": Fault(_LATE, retryable=True),
    "broken_stream": Fault(_BROKEN, retryable=True),
    "context_too_long": Fault(_REFUSED, retryable=False),
    "content_filtered": Fault(_REFUSED, retryable=True),
    "request_refused": Fault(_REFUSED, retryable=False),
    "interrupted": Fault(_("The writing was interrupted. Try again."), retryable=True),
    "cancelled": Fault(_("You stopped the text. What was written is kept."), retryable=True),
}


# A provider may send the whole request back as its reason; what it says first is what matters.
LONGEST_REASON = 300


class UpstreamFault(Exception):
    """A text that could not be had. `code` is a key of FAULTS; the message is the provider's reason, free of keys.

    `label` names status and error code alone, for the log: a reason may quote the prompt.
    """

    def __init__(self, code: str, reason: str, *, label: str = "") -> None:
        super().__init__(without_keys(reason)[:LONGEST_REASON])
        self.code = code
        self.label = label


_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:(?:sk|pk|rk)-|Bearer )[\w*-]{6,}")


def without_keys(text: str) -> str:
    """Take out the configured keys and whatever else looks like one."""
    for key in settings.OPENAI_API_KEYS:
        text = text.replace(key, "[key]")
    return _LOOKS_LIKE_A_KEY.sub("[key]", text)


def classify(error: Exception) -> UpstreamFault:
    """Say what an exception of the openai package or of its transport means."""
    match error:
        case openai.APIStatusError():
            label = f"status {error.status_code}, code {error.code}, param {error.param}"
            return UpstreamFault(_code_for_status(error), f"{error.status_code} {error.message}", label=label[:120])
        case _:
            cause = _first_cause(error)
            name = type(cause).__name__
            return UpstreamFault(_code_for_cause(cause), f"{name}: {cause}", label=name)


def _first_cause(error: BaseException) -> BaseException:
    """Give what really happened: on the way up, a dropped connection is renamed to a time-out while connecting."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _code_for_cause(cause: BaseException) -> str:
    match cause:
        case TimeoutError() | httpx2.TimeoutException():
            return "provider_timeout"
        case aiohttp.ClientConnectorError() | ConnectionRefusedError() | socket.gaierror():
            return "provider_unreachable"
        case _:
            return "broken_stream"


def _code_for_status(error: openai.APIStatusError) -> str:
    match error.status_code, error.code:
        case 401, _:
            return "provider_unauthorized"
        case 403 | 404, _:
            return "model_not_available"
        case 429, "insufficient_quota":
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
