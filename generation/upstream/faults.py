"""What can go wrong at a provider, and what follows from each fault. Which fault it is says classify.py."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

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

# The gravest first: where all candidates failed, the one is named that somebody has to do something about.
FAULTS = {
    "provider_unauthorized": Fault(_ACCESS, False, Blames.KEY, 10 * MINUTE),
    "quota_exhausted": Fault(_ACCESS, False, Blames.KEY, HOUR),
    "wrong_address": Fault(_ACCESS, False, Blames.PROVIDER, 10 * MINUTE),
    "model_not_available": Fault(_MODEL, False, Blames.CANDIDATE, 10 * MINUTE),
    "too_expensive": Fault(_ACCESS, False, Blames.CANDIDATE, 10 * MINUTE),
    "candidate_unusable": Fault(_DOWN, False, Blames.CANDIDATE, 10 * MINUTE),
    "request_refused": Fault(_REFUSED, False, Blames.CANDIDATE, 5.0, growing=True),
    "context_too_long": Fault(_REFUSED, retryable=False),
    "content_filtered": Fault(_REFUSED, retryable=True),
    "provider_unreachable": Fault(_DOWN, True, Blames.PROVIDER, 5.0, growing=True),
    "provider_error": Fault(_DOWN, True, Blames.CANDIDATE, 5.0, growing=True),
    "rate_limited": Fault(_BUSY, True, Blames.CANDIDATE, 10.0, growing=True),
    "provider_timeout": Fault(_LATE, True, Blames.CANDIDATE, 5.0, growing=True),
    "broken_stream": Fault(_BROKEN, True, Blames.CANDIDATE, 5.0, growing=True),
    "took_too_long": Fault(_LATE, retryable=True),
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


def gravity(code: str) -> int:
    """Return how grave a fault is, for comparing."""
    return -list(FAULTS).index(code)


# A provider may send the whole request back as its reason; what it says first is what matters.
LONGEST_REASON = 300
LONGEST_LABEL = 200
SHORTEST_QUOTATION = 16

_NEVER_ASKED = {"provider_unreachable", "no_connection_free", "candidate_unusable"}


class UpstreamFault(Exception):
    """A text that was not generated. `code` is a key of FAULTS; the message is the provider's reason, free of keys.

    `label` is what may be logged: status and error code, and the reason where it quotes nobody. `retry_after` is in
    seconds.
    `refused_wish` is the part of the request that the provider does not take (see wishes.py), if it is that alone.
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
        refused_wish: str = "",
    ) -> None:
        super().__init__(without_keys(reason)[:LONGEST_REASON])
        self.code = code
        self.label = without_keys(label)
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after
        self.refused_wish = refused_wish

    def say_reason(self, *, unless_in: Sequence[str]) -> None:
        """Put the provider's reason into the label, unless it quotes what was asked."""
        reason = str(self)
        if not quotes(reason, unless_in) and reason not in self.label:
            self.label = f"{self.label}: {reason}"[:LONGEST_LABEL] if self.label else reason[:LONGEST_LABEL]

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
        return self.code in _NEVER_ASKED if self.status is None else self.status != 200


def quotes(reason: str, texts: Iterable[str]) -> bool:
    """Whether a reason has a line of these texts in it, or a run of SHORTEST_QUOTATION of their characters."""
    runs = {reason[start : start + SHORTEST_QUOTATION] for start in range(len(reason) - SHORTEST_QUOTATION + 1)}
    for text in texts:
        lines = (line.strip() for line in text.splitlines())
        if any(run in text for run in runs) or any(len(line) > 2 and line in reason for line in lines):
            return True
    return False


_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:(?:sk|pk|rk)-|Bearer )[\w*-]{6,}")


def without_keys(text: str) -> str:
    """Return a text without secrets of ours and whatever else looks like a key; control characters become escapes."""
    return visible(_LOOKS_LIKE_A_KEY.sub("[key]", without_secrets(text)))
