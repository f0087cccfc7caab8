import uuid
from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from generation.cursor import Cursor

if TYPE_CHECKING:
    from accounts.models import User

# How long a producer that went silent keeps its claim, and how often a live one renews it.
LEASE = timedelta(seconds=15)
RENEW_SECONDS = 5.0


class Message(TypedDict):
    """One message of a conversation, as chat completions take it."""

    role: str
    content: str


class GenerationQuerySet(models.QuerySet["Generation"]):
    def visible_to(self, user: "User") -> "GenerationQuerySet":
        return self.filter(user=user)

    def claim(self, pk: uuid.UUID, *, owner: str) -> "Generation | None":
        """Take the right to write this text under the next epoch; None when somebody else has it or it is finished.

        One conditional update, so of two processes that try at once only one gets it. The clock is the database's,
        because the processes may run on machines whose clocks differ.
        """
        free = Q(status=Generation.Status.PENDING) | Q(status=Generation.Status.RUNNING, lease_expires_at__lt=Now())
        claimed = self.filter(free, pk=pk).update(
            status=Generation.Status.RUNNING,
            epoch=F("epoch") + 1,
            lease_owner=owner,
            lease_expires_at=Now() + LEASE,
            started_at=Now(),
            first_token_at=None,
        )
        return self.get(pk=pk) if claimed else None

    def renew(self, pks: Collection[uuid.UUID], *, owner: str) -> int:
        """Extend this owner's leases on these rows; the number of rows it still had."""
        return self.filter(pk__in=pks, status=Generation.Status.RUNNING, lease_owner=owner).update(
            lease_expires_at=Now() + LEASE
        )

    def restart(self, pk: uuid.UUID) -> bool:
        """Have a failed or cancelled text written again; False when it is neither."""
        return bool(
            self.filter(pk=pk, status__in=[Generation.Status.FAILED, Generation.Status.CANCELLED]).update(
                status=Generation.Status.PENDING,
                text="",
                fault="",
                fault_detail="",
                started_at=None,
                first_token_at=None,
                finished_at=None,
            )
        )

    def cancel_unclaimed(self, pk: uuid.UUID) -> bool:
        """Stop a text that no living producer writes."""
        unclaimed = Q(status=Generation.Status.PENDING) | Q(
            status=Generation.Status.RUNNING, lease_expires_at__lt=Now()
        )
        return bool(
            self.filter(unclaimed, pk=pk).update(
                status=Generation.Status.CANCELLED, epoch=F("epoch") + 1, finished_at=Now()
            )
        )


class Generation(models.Model):
    """One text written by a model, or replayed from an author. The row is the truth; the event log is a fast copy."""

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        RUNNING = "running", _("running")
        COMPLETED = "completed", _("completed")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    class Source(models.TextChoices):
        MODEL = "model", _("written by a model")
        AUTHORED = "authored", _("written by an author")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="generations", verbose_name=_("person")
    )
    kind = models.CharField(
        _("kind"),
        max_length=32,
        help_text=_("What the text is for; decides how its events look (generation/streams.py)."),
    )
    source = models.CharField(_("source"), max_length=16, choices=Source)
    messages = models.JSONField(_("messages"), default=list, help_text=_("The conversation the model is given."))
    authored_text = models.TextField(_("authored text"), blank=True, help_text=_("Replayed when no model writes."))

    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.PENDING)
    text = models.TextField(_("text"), blank=True)
    fault = models.CharField(_("fault"), max_length=64, blank=True)
    fault_detail = models.TextField(_("fault detail"), blank=True)

    epoch = models.PositiveIntegerField(_("epoch"), default=0, help_text=_("How many times the writing began."))
    lease_owner = models.CharField(_("lease owner"), max_length=120, blank=True)
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True, blank=True)

    model = models.CharField(_("model"), max_length=120, blank=True)
    finish_reason = models.CharField(_("finish reason"), max_length=32, blank=True)
    prompt_tokens = models.PositiveIntegerField(_("prompt tokens"), null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(_("completion tokens"), null=True, blank=True)
    cached_tokens = models.PositiveIntegerField(_("cached prompt tokens"), null=True, blank=True)

    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    first_token_at = models.DateTimeField(_("first token"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    objects = GenerationQuerySet.as_manager()

    class Meta:
        verbose_name = _("generation")
        verbose_name_plural = _("generations")
        ordering = ["-created_at"]
        indexes = [
            models.Index(
                fields=["lease_expires_at"],
                name="generation_unfinished",
                condition=Q(status__in=["pending", "running"]),
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def end_cursor(self) -> Cursor:
        """Where the event that ends this text stands."""
        return Cursor(self.epoch, len(self.text) + 1)

    def save_end(self, status: "Status", **values: object) -> bool:
        """Store how the writing ended, unless another epoch took over meanwhile; False then, and nothing is stored."""
        changes = {"status": status, "finished_at": timezone.now(), **values}
        stored = Generation.objects.filter(
            pk=self.pk, epoch=self.epoch, lease_owner=self.lease_owner, status=self.Status.RUNNING
        ).update(**changes)
        if stored:
            for name, value in changes.items():
                setattr(self, name, value)
        return bool(stored)


FINAL = frozenset({Generation.Status.COMPLETED, Generation.Status.FAILED, Generation.Status.CANCELLED})
