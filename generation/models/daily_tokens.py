from datetime import date
from typing import Literal, TypedDict

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Greatest
from django.utils.translation import gettext_lazy as _

# Whose tokens are counted: a person's, those of all guests together, or the whole site's.
Whose = int | Literal["guests", "site"]


class DailyTokensQuerySet(models.QuerySet["DailyTokens"]):
    def of(self, whose: Whose, day: date) -> "DailyTokensQuerySet":
        return self.filter(day=day, **_owner(whose))

    def begin(self, whose: Whose, day: date, *, tokens: int) -> None:
        """Make the count of a day; raises IntegrityError when it is there."""
        self.create(day=day, tokens=tokens, **_owner(whose))

    def largest_of_people(self, day: date) -> "DailyTokensQuerySet":
        return self.filter(day=day).exclude(user=None).select_related("user").order_by("-tokens")[:10]

    def take(self, tokens: int, *, limit: int) -> bool:
        """Count tokens unless the limit is reached: one conditional update, so that parallel requests share it."""
        return bool(self.filter(tokens__lt=limit).update(tokens=F("tokens") + tokens))

    def correct(self, difference: int) -> None:
        """Replace an estimate by what it came to."""
        self.update(tokens=Greatest(F("tokens") + difference, 0))


def _owner(whose: Whose) -> "_Owner":
    if isinstance(whose, int):
        return {"user_id": whose, "is_of_guests": False}
    return {"user_id": None, "is_of_guests": whose == "guests"}


class _Owner(TypedDict):
    user_id: int | None
    is_of_guests: bool


class DailyTokens(models.Model):
    """Tokens of one day (UTC) that are spent or reserved: one person's, or without a person all guests' or the whole
    site's."""

    day = models.DateField(_("day"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="daily_tokens",
        null=True,
        blank=True,
        verbose_name=_("person"),
    )
    is_of_guests = models.BooleanField(_("of all guests together"), default=False)
    tokens = models.BigIntegerField(_("tokens"), default=0)

    objects = DailyTokensQuerySet.as_manager()

    class Meta:
        verbose_name = _("tokens of a day")
        verbose_name_plural = _("tokens of each day")
        ordering = ["-day", "user"]
        constraints = [
            models.UniqueConstraint(fields=["day", "user"], name="one_count_per_person_and_day"),
            models.UniqueConstraint(
                fields=["day", "is_of_guests"], condition=Q(user=None), name="one_count_of_site_and_guests_per_day"
            ),
        ]

    def __str__(self) -> str:
        shared = _("guests") if self.is_of_guests else _("whole site")
        return f"{self.day} {self.user or shared}: {self.tokens}"
