from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

# Further failures in a row make no difference.
MOST_FAILURES = 20
# What a candidate would not take is tried anew: servers are updated.
REFUSALS_HOLD_FOR = timedelta(days=1)


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

    def of_note(self) -> "CandidateHealthQuerySet":
        """Those that cannot be asked as any other: they failed, or do not take or keep to everything."""
        keeps_to_schema = Q(writes_json_schema=None) | Q(writes_json_schema=True)
        return self.exclude(keeps_to_schema, failures=0, refused=[], thinks_first=False)

    def recover(self, identity: Identity) -> None:
        """Close the circuit of a candidate that has just answered."""
        self.of([identity]).exclude(failures=0).update(
            failures=0, fault="", detail="", cooling_until=None, probed_until=None
        )

    def record_context(self, identity: Identity, tokens: int) -> bool:
        """Record that a candidate was seen to read so many tokens of a prompt and no more; False if that is no news."""
        CandidateHealth.objects.bulk_create([CandidateHealth(**identity._asdict())], ignore_conflicts=True)
        wider = Q(context_tokens=None) | Q(context_tokens__gt=tokens)
        return bool(self.of([identity]).filter(wider).update(context_tokens=tokens))

    def recover_all(self) -> int:
        """Close all circuits, so that the candidates are asked at once; return how many were not closed."""
        return self.exclude(failures=0).update(failures=0, fault="", detail="", cooling_until=None, probed_until=None)


class CandidateHealth(models.Model):
    """What is known of one candidate: its circuit breaker, and what it can do.

    After a failure it cools down, then one request probes it, and when that is answered it has recovered.

    In the database and not in a cache, so that all processes share it with Redis and without, it outlives a restart,
    and staff see it.
    """

    provider = models.CharField(_("provider"), max_length=32)
    key_id = models.CharField(_("key"), max_length=16, help_text=_("A fingerprint; the key itself is not stored."))
    model = models.CharField(_("model"), max_length=120)

    fault = models.CharField(_("last fault"), max_length=64, blank=True)
    detail = models.TextField(_("status and code"), blank=True, help_text=_("Its words stand with the attempt."))
    failures = models.PositiveSmallIntegerField(
        _("failures"), default=0, help_text=_("The more, the longer it cools down.")
    )
    cooling_until = models.DateTimeField(_("cooling down until"), null=True, blank=True)
    probed_until = models.DateTimeField(
        _("probed until"), null=True, blank=True, help_text=_("One request probes it until then.")
    )

    refused = models.JSONField(
        _("is asked without"), default=list, blank=True, help_text=_("Found out by asking; tried anew after a day.")
    )
    refused_at = models.DateTimeField(_("found out"), null=True, blank=True)
    thinks_first = models.BooleanField(
        _("thinks first"), default=False, help_text=_("Its texts begin with its thoughts, which are taken out.")
    )

    verified_at = models.DateTimeField(_("verified"), null=True, blank=True)
    streams = models.BooleanField(_("streams"), null=True, blank=True)
    reports_usage = models.BooleanField(_("reports usage"), null=True, blank=True)
    writes_json_schema = models.BooleanField(_("json_schema"), null=True, blank=True)
    writes_json_object = models.BooleanField(_("json_object"), null=True, blank=True)
    context_tokens = models.PositiveIntegerField(
        _("context"),
        null=True,
        blank=True,
        help_text=_("How many tokens of prompt and text it reads at most, as its server tells or as it counted."),
    )
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
    def is_cooling_down(self) -> bool:
        return self.cooling_until is not None and self.cooling_until > timezone.now()

    @property
    def refused_lately(self) -> frozenset[str]:
        """What it is not asked for at the moment, because it would not take it."""
        if self.refused_at is None or self.refused_at < timezone.now() - REFUSALS_HOLD_FOR:
            return frozenset()
        return frozenset(self.refused)

    @property
    def not_kept_to(self) -> frozenset[str]:
        """The formats of answers that it takes and does not keep to, as a probe found; the next probe tells anew."""
        if self.writes_json_schema is not False:
            return frozenset()
        return frozenset({"json_schema"} if self.writes_json_object else {"json_schema", "response_format"})

    def record_failure(
        self, fault: str, detail: str, *, cooldown_seconds: float, growing: bool, longest_seconds: float
    ) -> float:
        """Record a failure, and return for how many seconds the candidate cools down.

        Failures of requests that were under way when it was cooling down already do not make that longer: a classroom
        that fails at once is one failure.
        """
        now = timezone.now()
        if not self.is_cooling_down:
            self.failures = min(self.failures + 1, MOST_FAILURES)
        if growing:
            cooldown_seconds = min(longest_seconds, cooldown_seconds * 2.0 ** (self.failures - 1))
        until = now + timedelta(seconds=cooldown_seconds)
        self.cooling_until = max(self.cooling_until or until, until)
        self.fault, self.detail, self.probed_until = fault, detail, None
        self.save(update_fields=["failures", "cooling_until", "fault", "detail", "probed_until"])
        return (self.cooling_until - now).total_seconds()

    def start_probe(self, *, seconds: float) -> datetime | None:
        """Take the right to probe the candidate, and return until when; None when another request has it."""
        now = timezone.now()
        free = Q(probed_until=None) | Q(probed_until__lt=now)
        unchanged = Q(cooling_until=self.cooling_until)
        until = now + timedelta(seconds=seconds)
        taken = CandidateHealth.objects.filter(free & unchanged, pk=self.pk).update(probed_until=until)
        return until if taken else None
