import secrets
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from generation.models import Generation
from tasks.marking.rubric import RubricCriterion
from tasks.models.simulation import Submission

if TYPE_CHECKING:
    from accounts.models import User


def new_marker() -> str:
    return secrets.token_hex(8)


class AssessmentQuerySet(models.QuerySet["Assessment"]):
    def visible_to(self, user: "User") -> "AssessmentQuerySet":
        return self.filter(submission__task__simulation__user=user)

    def in_force(self) -> "AssessmentQuerySet":
        return self.filter(superseded_at=None)

    def with_marks(self) -> "AssessmentQuerySet":
        return self.prefetch_related("marks")


class Assessment(models.Model):
    """One marking of a submission by one marker. One is in force for each submission; the others stay.

    What it was marked by stays with it: a brief that is edited later changes no mark.
    """

    class MarkedBy(models.TextChoices):
        MODEL = "model", _("a language model")
        PERSON = "person", _("a person")
        SELF = "self", _("the learner")
        RULE = "rule", _("a rule")

    class Status(models.TextChoices):
        PENDING = "pending", _("being marked")
        MARKED = "marked", _("marked")
        PROVISIONAL = "provisional", _("provisional")
        NOT_MARKED = "not_marked", _("not marked")
        SELF = "self", _("marked by the learner")

    class Because(models.TextChoices):
        """Why there are no marks, or why a rule gave none."""

        NO_MODEL = "no_model", _("no model is configured")
        UNAVAILABLE = "unavailable", _("no model was available")
        BUDGET = "budget", _("the day's tokens are used up")
        UNUSABLE = "unusable", _("the model's marks could not be used")
        STOPPED = "stopped", _("the marking was stopped")
        EMPTY = "empty", _("the answer is empty")
        COPIED = "copied", _("the answer is copied from the task")
        TOO_SHORT = "too_short", _("the answer is too short to be looked at")
        NO_CRITERIA = "no_criteria", _("the task has no criteria")

    submission = models.ForeignKey(
        Submission, on_delete=models.CASCADE, related_name="assessments", verbose_name=_("submission")
    )
    marked_by = models.CharField(_("marked by"), max_length=8, choices=MarkedBy)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        related_name="+",
        null=True,
        blank=True,
        verbose_name=_("person"),
        help_text=_("Who marked, where a person did."),
    )
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.PENDING)
    because = models.CharField(_("because"), max_length=12, choices=Because, blank=True)
    rubric = models.JSONField(_("rubric"), help_text=_("The criteria as they were when this was marked."))
    prompt_version = models.PositiveSmallIntegerField(_("version of the prompt"), null=True, blank=True)
    generation = models.OneToOneField(
        Generation,
        on_delete=models.RESTRICT,
        related_name="assessment",
        null=True,
        blank=True,
        verbose_name=_("generation"),
    )
    marker = models.CharField(
        _("marker"),
        max_length=32,
        default=new_marker,
        help_text=_("Random; encloses the answer in the prompt, so that it cannot end its own quotation."),
    )
    next_time = models.TextField(_("next time"), blank=True)
    tries_to_instruct = models.BooleanField(
        _("tries to instruct"), default=False, help_text=_("Whether the answer speaks to whoever marks it.")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    marked_at = models.DateTimeField(_("marked"), null=True, blank=True)
    superseded_at = models.DateTimeField(_("superseded"), null=True, blank=True)

    objects = AssessmentQuerySet.as_manager()

    class Meta:
        verbose_name = _("assessment")
        verbose_name_plural = _("assessments")
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["created_at"], name="assessment_created")]
        constraints = [
            models.UniqueConstraint(
                fields=["submission"],
                condition=models.Q(superseded_at=None),
                name="one_assessment_in_force",
            )
        ]

    def __str__(self) -> str:
        return f"{self.submission}, {self.get_marked_by_display()}"

    @property
    def criteria(self) -> list[RubricCriterion]:
        return list(self.rubric)

    @cached_property
    def ordered_marks(self) -> list["Mark"]:
        """The marks in the order of the rubric."""
        places = {criterion["slug"]: place for place, criterion in enumerate(self.criteria)}
        return sorted(self.marks.all(), key=lambda mark: places.get(mark.criterion, len(places)))

    @property
    def has_marks(self) -> bool:
        return self.status in WITH_MARKS

    @property
    def points(self) -> int | None:
        """The sum of the marks; None where there are none."""
        return sum(mark.points for mark in self.marks.all()) if self.has_marks else None

    @property
    def most(self) -> int:
        return sum(criterion["points"] for criterion in self.criteria)

    @property
    def is_for_learner(self) -> bool:
        """Whether learners mark themselves, because nobody else does."""
        return self.status == self.Status.NOT_MARKED

    @property
    def can_be_retried(self) -> bool:
        return self.status == self.Status.NOT_MARKED and self.because != self.Because.NO_MODEL


WITH_MARKS = frozenset({Assessment.Status.MARKED, Assessment.Status.PROVISIONAL, Assessment.Status.SELF})


class Mark(models.Model):
    """The points for one criterion, with the passage of the answer that they rest on."""

    assessment = models.ForeignKey(
        Assessment, on_delete=models.CASCADE, related_name="marks", verbose_name=_("assessment")
    )
    criterion = models.SlugField(_("criterion"))
    points = models.PositiveSmallIntegerField(_("points"))
    quotation = models.TextField(_("quotation"), blank=True)
    start = models.PositiveIntegerField(_("start"), null=True, blank=True)
    end = models.PositiveIntegerField(_("end"), null=True, blank=True)
    reason = models.TextField(_("reason"), blank=True)

    class Meta:
        verbose_name = _("mark")
        verbose_name_plural = _("marks")
        ordering = ["assessment", "pk"]
        constraints = [models.UniqueConstraint(fields=["assessment", "criterion"], name="one_mark_per_criterion")]

    def __str__(self) -> str:
        return f"{self.criterion}: {self.points}"


class Review(models.Model):
    """A learner's wish that a person look at how an answer was marked."""

    submission = models.OneToOneField(
        Submission, on_delete=models.CASCADE, related_name="review", verbose_name=_("submission")
    )
    reason = models.TextField(_("reason"), blank=True)
    asked_at = models.DateTimeField(_("asked"), default=timezone.now, editable=False)
    answered_at = models.DateTimeField(_("answered"), null=True, blank=True)

    class Meta:
        verbose_name = _("review")
        verbose_name_plural = _("reviews")
        ordering = ["-asked_at"]

    def __str__(self) -> str:
        return str(self.submission)
