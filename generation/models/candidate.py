from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

# Further faults in a row make no difference.
MOST_STRIKES = 20


class Identity(NamedTuple):
    """What tells candidates apart, without the key."""

    provider: str
    key_id: str
    model: str


class CandidateHealthQuerySet(models.QuerySet["CandidateHealth"]):
    def of(self, identities: "list[Identity]") -> "CandidateHealthQuerySet":
        wanted = Q(pk__in=[])
        for identity in identities:
            wanted |= Q(**identity._asdict())
        return self.filter(wanted)

    def by_identity(self) -> "dict[Identity, CandidateHealth]":
        return {row.identity: row for row in self}

    def recover(self, identity: Identity) -> None:
        """Trust a candidate again that has just shown that it works."""
        self.of([identity]).exclude(strikes=0).update(
            strikes=0, fault="", detail="", left_alone_until=None, probed_until=None
        )

    def forget_faults(self) -> int:
        """Have the candidates asked again at once, whatever they did; the number of those that were left alone."""
        return self.exclude(strikes=0).update(strikes=0, fault="", detail="", left_alone_until=None, probed_until=None)


class CandidateHealth(models.Model):
    """What is known of one candidate: until when it is left alone and why, and what it can do.

    In the database and not in a cache, so that all processes share it with Redis and without, it outlives a restart,
    and staff see it.
    """

    provider = models.CharField(_("provider"), max_length=32)
    key_id = models.CharField(_("key"), max_length=16, help_text=_("A fingerprint; the key itself is not stored."))
    model = models.CharField(_("model"), max_length=120)

    fault = models.CharField(_("last fault"), max_length=64, blank=True)
    detail = models.TextField(_("status and code"), blank=True, help_text=_("Its words stand with the attempt."))
    strikes = models.PositiveSmallIntegerField(
        _("strikes"), default=0, help_text=_("Faults in a row; the longer the row, the longer it is left alone.")
    )
    left_alone_until = models.DateTimeField(_("left alone until"), null=True, blank=True)
    probed_until = models.DateTimeField(
        _("probed until"), null=True, blank=True, help_text=_("One request is trying it out until then.")
    )

    verified_at = models.DateTimeField(_("verified"), null=True, blank=True)
    streams = models.BooleanField(_("streams"), null=True, blank=True)
    reports_usage = models.BooleanField(_("reports usage"), null=True, blank=True)
    writes_json_schema = models.BooleanField(_("json_schema"), null=True, blank=True)
    writes_json_object = models.BooleanField(_("json_object"), null=True, blank=True)
    first_token_seconds = models.FloatField(_("seconds to the first token"), null=True, blank=True)

    objects = CandidateHealthQuerySet.as_manager()

    class Meta:
        verbose_name = _("candidate")
        verbose_name_plural = _("candidates")
        ordering = ["provider", "model", "key_id"]
        constraints = [models.UniqueConstraint(fields=["provider", "key_id", "model"], name="one_row_per_candidate")]

    def __str__(self) -> str:
        return f"{self.provider} {self.model}"

    @property
    def identity(self) -> Identity:
        return Identity(self.provider, self.key_id, self.model)

    @property
    def is_left_alone(self) -> bool:
        return self.left_alone_until is not None and self.left_alone_until > timezone.now()

    def strike(self, fault: str, detail: str, *, pause_seconds: float, growing: bool, longest_seconds: float) -> float:
        """Note a fault and leave the candidate alone; the pause that follows, in seconds.

        Faults of requests that were under way when it was left alone already do not make the pause longer: a
        classroom that fails at once is one failure.
        """
        now = timezone.now()
        if not self.is_left_alone:
            self.strikes = min(self.strikes + 1, MOST_STRIKES)
        if growing:
            pause_seconds = min(longest_seconds, pause_seconds * 2.0 ** (self.strikes - 1))
        until = now + timedelta(seconds=pause_seconds)
        self.left_alone_until = max(self.left_alone_until or until, until)
        self.fault, self.detail, self.probed_until = fault, detail, None
        self.save(update_fields=["strikes", "left_alone_until", "fault", "detail", "probed_until"])
        return (self.left_alone_until - now).total_seconds()

    def take_probe(self, *, seconds: float) -> datetime | None:
        """Take the right to try the candidate out and say until when; None when another request has it."""
        now = timezone.now()
        free = Q(probed_until=None) | Q(probed_until__lt=now)
        unchanged = Q(left_alone_until=self.left_alone_until)
        until = now + timedelta(seconds=seconds)
        taken = CandidateHealth.objects.filter(free & unchanged, pk=self.pk).update(probed_until=until)
        return until if taken else None
