from datetime import date
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Greatest
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from accounts.models import User


class DailyTokensQuerySet(models.QuerySet["DailyTokens"]):
    def of(self, user: "User | int | None", day: date) -> "DailyTokensQuerySet":
        """One person's count of a day, or with None the whole site's."""
        return self.filter(day=day, user=user)

    def largest_of_people(self, day: date) -> "DailyTokensQuerySet":
        return self.filter(day=day).exclude(user=None).select_related("user").order_by("-tokens")[:10]

    def take(self, tokens: int, *, limit: int) -> bool:
        """Count tokens unless the limit is reached: one conditional update, so that parallel requests share it."""
        return bool(self.filter(tokens__lt=limit).update(tokens=F("tokens") + tokens))

    def correct(self, difference: int) -> None:
        """Replace an estimate by what it came to."""
        self.update(tokens=Greatest(F("tokens") + difference, 0))


class DailyTokens(models.Model):
    """Tokens of one day (UTC) that are spent or set aside: one person's, or without a person the whole site's."""

    day = models.DateField(_("day"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="daily_tokens",
        null=True,
        blank=True,
        verbose_name=_("person"),
    )
    tokens = models.BigIntegerField(_("tokens"), default=0)

    objects = DailyTokensQuerySet.as_manager()

    class Meta:
        verbose_name = _("tokens of a day")
        verbose_name_plural = _("tokens of each day")
        ordering = ["-day", "user"]
        constraints = [
            models.UniqueConstraint(fields=["day", "user"], name="one_count_per_person_and_day"),
            models.UniqueConstraint(fields=["day"], condition=Q(user=None), name="one_count_of_the_site_per_day"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.user or _('whole site')}: {self.tokens}"
