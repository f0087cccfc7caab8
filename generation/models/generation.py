import uuid
from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from generation import finish_reasons
from generation.cursor import Cursor
from generation.model_request import ModelRequest
from generation.toy import TOY_MODEL

if TYPE_CHECKING:
    from accounts.models import User

# How long a producer that went silent keeps its claim, and how often a live one renews it.
LEASE = timedelta(seconds=15)
RENEW_SECONDS = 5.0
# A text whose producers died this often has something about it that kills them.
MOST_TAKEOVERS = 2
# A text that was given back and that nobody went on with for so long has no reader who would begin it.
FORGOTTEN = timedelta(seconds=5)


class GenerationQuerySet(models.QuerySet["Generation"]):
    def visible_to(self, user: "User") -> "GenerationQuerySet":
        return self.filter(user=user)

    def without_prompts(self) -> "GenerationQuerySet":
        """Fetch what readers see: a prompt is longer than its text, and holds all texts before it."""
        return self.defer("messages", "options")

    def unfinished(self) -> "GenerationQuerySet":
        return self.filter(status__in=[Generation.Status.PENDING, Generation.Status.RUNNING])

    def expired(self) -> "GenerationQuerySet":
        """Texts whose producer fell silent."""
        return self.filter(status=Generation.Status.RUNNING, lease_expires_at__lt=Now())

    def being_written(self, pks: Collection[uuid.UUID]) -> set[uuid.UUID]:
        """Return those that a live producer writes, for somebody who may still read them."""
        owned = self.filter(status=Generation.Status.RUNNING, lease_expires_at__gt=Now(), user__is_active=True)
        return set(owned.filter(pk__in=pks).values_list("pk", flat=True))

    def abandoned(self) -> "GenerationQuerySet":
        """Texts that somebody began to write and nobody writes now.

        Not those that wait for their first reader: whoever never looks at a text causes none to be paid for.
        """
        waits = Q(status=Generation.Status.PENDING)
        given_back = waits & Q(lease_owner__gt="", asked_at__lt=Now() - FORGOTTEN)
        held_long_enough = waits & Q(lease_owner="", held_until__lt=Now() - FORGOTTEN)
        return self.filter(given_back | held_long_enough | _fit_for_takeover()).of_active_people()

    def free(self) -> int:
        """Let held texts begin; the number of those that had to wait."""
        return self.filter(held_until__gt=Now(), status=Generation.Status.PENDING).update(held_until=Now())

    def of_active_people(self) -> "GenerationQuerySet":
        """Texts of people whose account is not disabled.

        A condition on the row itself and not a join: PostgreSQL looks at it again when it had to wait for the row.
        """
        people = get_user_model().objects.filter(pk=OuterRef("user_id"), is_active=True)
        return self.filter(Exists(people))

    def unclaimed(self) -> "GenerationQuerySet":
        """Texts that no living producer writes."""
        return self.filter(Q(status=Generation.Status.PENDING) | Q(pk__in=self.expired().values("pk")))

    def worn_out(self) -> "GenerationQuerySet":
        """Texts that were taken over as often as they may be."""
        return self.filter(takeovers__gte=MOST_TAKEOVERS)

    def owned_by(self, owner: str) -> "GenerationQuerySet":
        return self.filter(status=Generation.Status.RUNNING, lease_owner=owner)

    def claim(self, pk: uuid.UUID, *, owner: str, request: ModelRequest | None = None) -> "Generation | None":
        """Take the right to write this text under the next epoch, and store how a model is to be asked for it.

        Returns None when somebody else has it or it is finished.

        One conditional update, so of two processes that try at once only one gets it. The clock is the database's,
        because the processes may run on machines whose clocks differ.
        """
        is_held = Q(held_until__gt=Now())
        free = Q(status=Generation.Status.PENDING) & ~is_held | _fit_for_takeover()
        claimed = (
            self.filter(free, pk=pk)
            .of_active_people()
            .update(
                status=Generation.Status.RUNNING,
                epoch=F("epoch") + 1,
                takeovers=Case(
                    When(status=Generation.Status.RUNNING, then=F("takeovers") + 1),
                    default=F("takeovers"),
                    output_field=models.PositiveSmallIntegerField(),
                ),
                lease_owner=owner,
                lease_expires_at=Now() + LEASE,
                started_at=Now(),
                first_token_at=None,
                **_columns_of(request),
            )
        )
        return self.filter(pk=pk, lease_owner=owner).first() if claimed else None

    def expire_leases(self) -> int:
        """Free what the processes before this one left behind; the number of rows."""
        return self.filter(status=Generation.Status.RUNNING).update(lease_expires_at=Now() - LEASE)

    def renew(self, pks: Collection[uuid.UUID], *, owner: str) -> dict[uuid.UUID, bool]:
        """Extend this owner's leases; return those it still had, each with whether it is to be stopped.

        That is where somebody wishes so, or where its person has been disabled.
        """
        own = self.owned_by(owner).filter(pk__in=pks)
        own.update(lease_expires_at=Now() + LEASE)
        rows = own.values_list("pk", "cancel_wanted", "user__is_active")
        return {pk: is_cancelled or not is_active for pk, is_cancelled, is_active in rows}

    def give_back(self) -> int:
        """Make claimed texts wait for whoever looks next, and return their number."""
        # The owner stays: it tells a text that was begun from one that waits for its first reader.
        return self.update(status=Generation.Status.PENDING, asked_at=Now() - FORGOTTEN)

    def restart(self, pk: uuid.UUID) -> bool:
        """Make a failed or cancelled text wait to be written again; return False when it is neither."""
        because = Generation.AuthoredBecause
        stood_in = Q(authored_because__in=[because.NO_CANDIDATE, because.BUDGET])
        return bool(
            self.filter(pk=pk, status__in=[Generation.Status.FAILED, Generation.Status.CANCELLED]).update(
                status=Generation.Status.PENDING,
                # An author stood in for a model; it is the model's turn again.
                source=Case(When(stood_in, then=Value(Generation.Source.MODEL)), default=F("source")),
                authored_because=Case(When(stood_in, then=Value("")), default=F("authored_because")),
                options=None,
                text="",
                fault="",
                fault_detail="",
                held_until=None,
                takeovers=0,
                cancel_wanted=False,
                lease_owner="",
                asked_at=Now(),
                started_at=None,
                first_token_at=None,
                finished_at=None,
            )
        )


def _columns_of(request: ModelRequest | None) -> dict[str, object]:
    if request is None:
        return {}
    return {"messages": list(request.messages), "options": request.options, "only_model": request.only_model}


def _fit_for_takeover() -> Q:
    return Q(
        status=Generation.Status.RUNNING,
        lease_expires_at__lt=Now(),
        takeovers__lt=MOST_TAKEOVERS,
        cancel_wanted=False,
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

    class AuthoredBecause(models.TextChoices):
        NO_MODEL = "no_model", _("no model is configured")
        NO_CANDIDATE = "no_candidate", _("no model was available")
        BUDGET = "budget", _("the day's tokens are used up")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="generations", verbose_name=_("person")
    )
    kind = models.CharField(
        _("kind"),
        max_length=32,
        help_text=_("What the text is for: a name in the setting GENERATION_KINDS."),
    )
    source = models.CharField(_("source"), max_length=16, choices=Source)
    messages = models.JSONField(_("messages"), default=list, help_text=_("The conversation the model is given."))
    options = models.JSONField(
        _("options"), null=True, blank=True, help_text=_("How the model is asked; empty until the text is claimed.")
    )
    authored_because = models.CharField(_("authored because"), max_length=16, choices=AuthoredBecause, blank=True)
    only_model = models.CharField(
        _("only model"), max_length=120, blank=True, help_text=_("No other model may write this text.")
    )
    subject = models.CharField(
        _("subject"), max_length=64, blank=True, help_text=_("What it is spent on, such as a profession.")
    )

    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.PENDING)
    text = models.TextField(_("text"), blank=True)
    fault = models.CharField(_("fault"), max_length=64, blank=True)
    fault_detail = models.TextField(_("fault detail"), blank=True)

    held_until = models.DateTimeField(
        _("held until"), null=True, blank=True, help_text=_("It is not begun before, unless somebody frees it.")
    )
    epoch = models.PositiveIntegerField(_("epoch"), default=0, help_text=_("How many times the writing began."))
    takeovers = models.PositiveSmallIntegerField(
        _("takeovers"), default=0, help_text=_("How often another producer took over after one fell silent.")
    )
    cancel_wanted = models.BooleanField(_("cancel wanted"), default=False)
    lease_owner = models.CharField(_("lease owner"), max_length=120, blank=True)
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True, blank=True)

    model = models.CharField(_("model"), max_length=120, blank=True)
    finish_reason = models.CharField(_("finish reason"), max_length=32, blank=True)
    prompt_tokens = models.PositiveIntegerField(_("prompt tokens"), null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(_("completion tokens"), null=True, blank=True)
    cached_tokens = models.PositiveIntegerField(_("cached prompt tokens"), null=True, blank=True)

    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    asked_at = models.DateTimeField(_("asked for"), default=timezone.now, editable=False)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    first_token_at = models.DateTimeField(_("first token"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    objects = GenerationQuerySet.as_manager()

    class Meta:
        verbose_name = _("generation")
        verbose_name_plural = _("generations")
        ordering = ["-created_at"]
        indexes = [
            # Not a partial one of the unfinished: SQLite uses it only where a statement spells the same condition out.
            models.Index(fields=["status", "lease_owner"], name="generation_by_status"),
            models.Index(fields=["created_at"], name="generation_created"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    def seconds_held(self) -> float:
        """Return for how long this text is still to wait, 0 where it may begin."""
        if self.held_until is None or self.status != self.Status.PENDING:
            return 0.0
        return max(0.0, (self.held_until - timezone.now()).total_seconds())

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def was_stopped(self) -> bool:
        """Whether its reader stopped it and there is something to keep."""
        return self.status == self.Status.CANCELLED and bool(self.text)

    @property
    def request(self) -> ModelRequest:
        """How a model is asked for this text, as it was stored when the text was claimed."""
        return ModelRequest(self.messages, only_model=self.only_model, **(self.options or {}))

    @property
    def seconds(self) -> float | None:
        """How long it took from the beginning of its writing to its end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def end_cursor(self) -> Cursor:
        """Where the event that ends this text stands."""
        return Cursor(self.epoch, len(self.text) + 1)

    def begin_again(self) -> bool:
        """Move on to the next epoch, which withdraws what was shown; False when another process took over."""
        moved = self._own_row().update(epoch=F("epoch") + 1, lease_expires_at=Now() + LEASE)
        if moved:
            self.epoch += 1
        return bool(moved)

    def _own_row(self) -> GenerationQuerySet:
        return Generation.objects.filter(
            pk=self.pk, epoch=self.epoch, lease_owner=self.lease_owner, status=self.Status.RUNNING
        )

    @property
    def is_by_toy(self) -> bool:
        return self.model == TOY_MODEL

    @property
    def was_cut(self) -> bool:
        """Whether the text came to its longest before it came to its end."""
        return self.finish_reason == finish_reasons.LENGTH

    def has_ended(self) -> bool:
        """Whether the stored row is final and no other process has begun it since."""
        return Generation.objects.filter(pk=self.pk, epoch=self.epoch, status__in=FINAL).exists()

    def save_end(self, status: "Status", **values: object) -> bool:
        """Store how the writing ended, unless another epoch took over meanwhile; False then, and nothing is stored."""
        changes = {"status": status, "finished_at": timezone.now(), **values}
        stored = self._own_row().update(**changes)
        if stored:
            for name, value in changes.items():
                setattr(self, name, value)
        return bool(stored)


FINAL = frozenset({Generation.Status.COMPLETED, Generation.Status.FAILED, Generation.Status.CANCELLED})
