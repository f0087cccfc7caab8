from datetime import timedelta

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from generation.models.generation import LEASE


class JobQuerySet(models.QuerySet["Job"]):
    def claim(self, name: str, *, owner: str) -> bool:
        """Take the right to run a job, and return whether it is due and nobody else runs it.

        The clock is the database's, because the processes may run on machines whose clocks differ.
        """
        if not self.filter(name=name).exists():
            self.bulk_create([Job(name=name, due_at=Now())], ignore_conflicts=True)
        free = Q(lease_expires_at=None) | Q(lease_expires_at__lt=Now())
        due = self.filter(free, name=name, due_at__lte=Now())
        # SQLite takes the write lock for an update even where there is nothing to update.
        return due.exists() and bool(due.update(lease_owner=owner, lease_expires_at=Now() + LEASE, started_at=Now()))

    def renew(self, name: str, *, owner: str) -> bool:
        """Extend a lease, and return whether this owner still has it."""
        return bool(self.filter(name=name, lease_owner=owner).update(lease_expires_at=Now() + LEASE))

    def finish(
        self, name: str, *, owner: str, took_seconds: float, again_after_seconds: float, has_failed: bool
    ) -> None:
        """Store how a run went and when the next one is due, unless another process has taken the job over."""
        self.filter(name=name, lease_owner=owner).update(
            due_at=Now() + timedelta(seconds=again_after_seconds),
            lease_owner="",
            lease_expires_at=None,
            took_seconds=took_seconds,
            has_failed=has_failed,
        )


class Job(models.Model):
    """A periodic job: when it is due, who runs it, and how it went."""

    name = models.CharField(_("name"), max_length=120, primary_key=True)
    due_at = models.DateTimeField(_("due"))
    lease_owner = models.CharField(_("lease owner"), max_length=120, blank=True)
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True, blank=True)
    started_at = models.DateTimeField(_("last started"), null=True, blank=True)
    took_seconds = models.FloatField(_("seconds it took"), null=True, blank=True)
    has_failed = models.BooleanField(_("failed"), default=False, help_text=_("The log says why."))

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = _("periodic job")
        verbose_name_plural = _("periodic jobs")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
