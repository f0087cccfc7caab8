"""How many tokens a person, all guests and the site may spend in a day (UTC), held under parallel requests.

Before a model is asked, what the text may cost at most is reserved by one conditional update; afterwards that is
replaced by what it did cost. A text whose process was killed stays counted at its estimate: the provider was asked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from generation.model_request import Message, ModelRequest
from generation.models import Attempt, DailyTokens, Whose
from web.problems import Problem

# Every model counts in tokens of its own: one is about four characters of English, fewer of other languages.
CHARACTERS_PER_TOKEN = 3
TOKENS_PER_MESSAGE = 4


def estimated_tokens(characters: int) -> int:
    return math.ceil(characters / CHARACTERS_PER_TOKEN)


def estimated_prompt_tokens(messages: Sequence[Message]) -> int:
    return sum(estimated_tokens(len(message["content"])) + TOKENS_PER_MESSAGE for message in messages)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Tokens counted before they were spent; in whose counts."""

    tokens: int
    day: date
    counts: tuple[Whose, ...]


def reserve(user_id: int, request: ModelRequest) -> Reservation | None:
    """Count what a text may cost at most.

    Returns None when the person, the guests or the site have spent what a day allows.

    The last text of a day may go over the limit; none is begun above it.
    """
    tokens = estimated_prompt_tokens(request.messages) + request.max_tokens
    day = timezone.now().date()
    limits = _limits(user_id, is_guest=User.objects.filter(pk=user_id, is_guest=True).exists())
    with transaction.atomic():
        # Always the person, then the guests, then the site, so that two texts never wait for each other.
        for count, limit in limits.items():
            if not _take(count, day, tokens, limit=limit):
                transaction.set_rollback(True)
                return None
    return Reservation(tokens, day, tuple(limits))


def reconcile(reservation: Reservation, *, spent: int) -> None:
    """Replace what was reserved by what was spent."""
    for count in reservation.counts:
        DailyTokens.objects.of(count, reservation.day).correct(spent - reservation.tokens)


def refuse_if_spent(user: User | None) -> None:
    """Refuse to begin something that will need a model, for a person or (None) a guest to come.

    Raises:
        Problem: 429 with the seconds until the next day.
    """
    limits = _limits(user.pk, is_guest=user.is_guest) if user is not None else _limits(None, is_guest=True)
    day = timezone.now().date()
    for count, limit in limits.items():
        row = DailyTokens.objects.of(count, day).first()
        if row is not None and row.tokens >= limit:
            raise Problem(
                _USED_UP_BY_GUESTS if count == "guests" else _USED_UP,
                code="guest_budget_exhausted" if count == "guests" else "budget_exhausted",
                status=429,
                retry_after=seconds_until_tomorrow(),
            )


_USED_UP = _("What the language model may write in a day is used up. New simulations can be started tomorrow.")
_USED_UP_BY_GUESTS = _(
    "What the language model may write for guests in a day is used up. Sign up to go on now, or come back tomorrow."
)


@dataclass(frozen=True, slots=True)
class Today:
    """Tokens spent or reserved today, and the limits; 0 is no limit."""

    spent: int
    limit: int
    guests_spent: int
    guests_limit: int
    person_limit: int


def of_today() -> Today:
    day = timezone.now().date()
    attempts = Attempt.objects.since(day)
    site = DailyTokens.objects.of("site", day).first() if settings.DAILY_TOKEN_BUDGET else None
    guests = DailyTokens.objects.of("guests", day).first() if settings.GUEST_DAILY_TOKEN_BUDGET else None
    return Today(
        spent=site.tokens if site is not None else attempts.tokens(),
        limit=settings.DAILY_TOKEN_BUDGET,
        guests_spent=guests.tokens if guests is not None else attempts.of("guests").tokens(),
        guests_limit=settings.GUEST_DAILY_TOKEN_BUDGET,
        person_limit=settings.USER_DAILY_TOKEN_BUDGET,
    )


def _limits(user_id: int | None, *, is_guest: bool) -> dict[Whose, int]:
    """Return the limits that are set, by whose count they are for, in the order in which they are taken."""
    limits: dict[Whose, int] = {}
    if user_id is not None:
        limits[user_id] = settings.USER_DAILY_TOKEN_BUDGET
    if is_guest:
        limits["guests"] = settings.GUEST_DAILY_TOKEN_BUDGET
    limits["site"] = settings.DAILY_TOKEN_BUDGET
    return {count: limit for count, limit in limits.items() if limit}


def _take(count: Whose, day: date, tokens: int, *, limit: int) -> bool:
    row = DailyTokens.objects.of(count, day)
    if row.take(tokens, limit=limit):
        return True
    if row.exists():
        return False
    # The limit may have been set in the middle of the day.
    spent = Attempt.objects.since(day).of(count).tokens()
    try:
        with transaction.atomic():
            DailyTokens.objects.begin(count, day, tokens=spent)
    except IntegrityError:
        pass  # another text of the same day was first
    return row.take(tokens, limit=limit)


def seconds_until_tomorrow() -> int:
    now = timezone.now()
    tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), tzinfo=UTC)
    return math.ceil((tomorrow - now).total_seconds())
