from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from django.db import models
from django.db.models import Count, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from generation.models.daily_tokens import Whose
from generation.models.generation import Generation

if TYPE_CHECKING:
    from django.db.models.expressions import Combinable


class Spent(NamedTuple):
    """What the attempts with one name came to. `cost` is in US dollars, as far as prices are known."""

    name: object
    texts: int
    tries: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost: Decimal | None


class AttemptQuerySet(models.QuerySet["Attempt"]):
    def since(self, day: date) -> "AttemptQuerySet":
        """Those of a day (UTC) and later."""
        return self.filter(started_at__gte=datetime.combine(day, time.min, tzinfo=UTC))

    def of(self, whose: Whose) -> "AttemptQuerySet":
        """Those of a person, of all guests together, or of the whole site."""
        match whose:
            case "site":
                return self
            case "guests":
                return self.filter(generation__user__is_guest=True)
            case user_id:
                return self.filter(generation__user=user_id)

    def tokens(self) -> int:
        """Tokens in and out of all of them."""
        total: int = self.aggregate(total=Coalesce(Sum(_all_tokens()), 0))["total"]
        return total

    def spent_by(self, name: "Combinable") -> list[Spent]:
        """Sum up for each value of an expression; where most was asked first."""
        sums = self.values(name=name).annotate(
            texts=Count("generation", distinct=True),
            tries=Count("pk"),
            tokens_in=Coalesce(Sum("prompt_tokens"), 0),
            tokens_cached=Coalesce(Sum("cached_tokens"), 0),
            tokens_out=Coalesce(Sum("completion_tokens"), 0),
            cost=Sum("cost"),
        )
        return [Spent(**row) for row in sums.order_by("-tokens_in", "name")]


def _all_tokens() -> "Combinable":
    return Coalesce("prompt_tokens", 0) + Coalesce("completion_tokens", 0)


class Attempt(models.Model):
    """One try of a generation at one candidate. Written when the try is over; the key is never in it."""

    class Outcome(models.TextChoices):
        COMPLETED = "completed", _("completed")
        FAILED = "failed", _("failed")
        STOPPED = "stopped", _("stopped by a person or by a restart")
        OVERTAKEN = "overtaken", _("overtaken by a faster candidate")

    generation = models.ForeignKey(
        Generation, on_delete=models.CASCADE, related_name="attempts", verbose_name=_("generation")
    )
    epoch = models.PositiveIntegerField(_("epoch"))
    number = models.PositiveSmallIntegerField(_("number"), help_text=_("Its place among the tries of one text."))
    candidate = models.CharField(_("candidate"), max_length=200, help_text=_("Provider, number of the key, model."))
    provider = models.CharField(_("provider"), max_length=32)
    model = models.CharField(_("model"), max_length=120, help_text=_("The model asked for."))
    is_hedge = models.BooleanField(_("hedge"), default=False, help_text=_("Started because the one before was slow."))

    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome)
    fault = models.CharField(_("fault"), max_length=64, blank=True)
    detail = models.TextField(_("the provider's reason"), blank=True)
    http_status = models.PositiveSmallIntegerField(_("HTTP status"), null=True, blank=True)
    request_id = models.CharField(_("provider's request id"), max_length=120, blank=True)

    started_at = models.DateTimeField(_("started"), default=timezone.now)
    first_token_seconds = models.FloatField(_("seconds to the first token"), null=True, blank=True)
    seconds = models.FloatField(_("seconds in all"))

    prompt_tokens = models.PositiveIntegerField(_("prompt tokens"), null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(_("completion tokens"), null=True, blank=True)
    cached_tokens = models.PositiveIntegerField(_("cached prompt tokens"), null=True, blank=True)
    tokens_estimated = models.BooleanField(
        _("tokens are estimated"), default=False, help_text=_("The provider told none, as when a stream is cut.")
    )
    cost = models.DecimalField(
        _("cost (USD)"), max_digits=12, decimal_places=6, null=True, blank=True, help_text=_("Empty: price unknown.")
    )

    objects = AttemptQuerySet.as_manager()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["-started_at", "-pk"]
        indexes = [models.Index(fields=["started_at"], name="attempt_started")]

    def __str__(self) -> str:
        return f"{self.number}. {self.candidate}: {self.get_outcome_display()}"

    @property
    def tokens(self) -> int:
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)


class Spending(Attempt):
    """The attempts, seen as what they cost."""

    class Meta:
        proxy = True
        verbose_name = _("spending")
        verbose_name_plural = _("spending")
