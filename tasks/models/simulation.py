import secrets
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from generation.models import Generation
from professions.models import Brief, Profession

if TYPE_CHECKING:
    from accounts.models import User


def new_marker() -> str:
    return secrets.token_hex(8)


class SimulationQuerySet(models.QuerySet["Simulation"]):
    def visible_to(self, user: "User") -> "SimulationQuerySet":
        return self.filter(user=user)

    def current(self) -> "SimulationQuerySet":
        return self.filter(superseded_at=None)

    def unread(self) -> "SimulationQuerySet":
        """Those whose first text nobody has asked for yet."""
        begun = Task.objects.filter(simulation=models.OuterRef("pk")).exclude(
            order=1, generation__status=Generation.Status.PENDING, generation__epoch=0
        )
        return self.exclude(models.Exists(begun))

    def with_progress(self) -> "SimulationQuerySet":
        """Fetch how far a simulation is, without any text."""
        texts = ["generation__messages", "generation__options", "generation__text"]
        return (
            self.select_related("profession", "report")
            .defer("report__messages", "report__options", "report__text")
            .prefetch_related(
                models.Prefetch("tasks", Task.objects.select_related("generation").defer(*texts).order_by("order")),
                models.Prefetch(
                    "profession__briefs", Brief.objects.only("profession", "order").order_by("order", "pk")
                ),
            )
        )

    def with_everything(self) -> "SimulationQuerySet":
        """Fetch what pages and API show of a simulation, in a constant number of queries and without prompts."""
        tasks = Task.objects.select_related("brief", "generation", "submission")
        return (
            self.select_related("profession", "report")
            .defer("report__messages", "report__options")
            .prefetch_related(
                models.Prefetch("tasks", tasks.defer("generation__messages", "generation__options").order_by("order")),
                models.Prefetch("profession__briefs", Brief.objects.order_by("order", "pk")),
            )
        )


class Simulation(models.Model):
    """One learner's run through a profession."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="simulations", verbose_name=_("learner")
    )
    profession = models.ForeignKey(
        Profession, on_delete=models.PROTECT, related_name="simulations", verbose_name=_("profession")
    )
    language = models.CharField(_("language"), max_length=12)
    marker = models.CharField(
        _("marker"),
        max_length=32,
        default=new_marker,
        help_text=_(
            "Random; encloses the learner's answers in prompts, so that an answer cannot end its own quotation."
        ),
    )
    report = models.OneToOneField(
        Generation, on_delete=models.RESTRICT, related_name="+", null=True, blank=True, verbose_name=_("report")
    )
    started_at = models.DateTimeField(_("started"), default=timezone.now, editable=False)
    superseded_at = models.DateTimeField(
        _("superseded"), null=True, blank=True, help_text=_("When the learner started the profession afresh.")
    )

    objects = SimulationQuerySet.as_manager()

    class Meta:
        verbose_name = _("simulation")
        verbose_name_plural = _("simulations")
        ordering = ["-started_at"]
        indexes = [models.Index(fields=["started_at"], name="simulation_started")]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "profession"],
                condition=models.Q(superseded_at=None),
                name="one_current_simulation_per_profession",
            )
        ]

    def __str__(self) -> str:
        return f"{self.profession} #{self.pk}"

    @property
    def is_current(self) -> bool:
        return self.superseded_at is None

    @property
    def is_finished(self) -> bool:
        return self.report is not None and self.report.status == Generation.Status.COMPLETED

    @cached_property
    def ordered_tasks(self) -> list["Task"]:
        return list(self.tasks.all())

    @property
    def total(self) -> int:
        return len(self.profession.briefs.all())

    @property
    def current_order(self) -> int:
        return self.ordered_tasks[-1].order

    @property
    def current_task(self) -> "Task":
        """The last task that was set; answered already when the report is due."""
        return self.ordered_tasks[-1]

    @property
    def current_text(self) -> Generation:
        """What the learner waits for or reads now: the current task's text, or the report."""
        return self.report or self.current_task.generation


class TaskQuerySet(models.QuerySet["Task"]):
    def visible_to(self, user: "User") -> "TaskQuerySet":
        return self.filter(simulation__user=user)


class Task(models.Model):
    simulation = models.ForeignKey(
        Simulation, on_delete=models.CASCADE, related_name="tasks", verbose_name=_("simulation")
    )
    brief = models.ForeignKey(Brief, on_delete=models.PROTECT, related_name="tasks", verbose_name=_("brief"))
    order = models.PositiveSmallIntegerField(_("order"))
    time_limit_minutes = models.PositiveSmallIntegerField(_("time limit (minutes)"))
    generation = models.OneToOneField(
        Generation, on_delete=models.RESTRICT, related_name="task", verbose_name=_("generation")
    )
    clock_started_at = models.DateTimeField(
        _("clock started"), null=True, blank=True, help_text=_("When the learner first had the whole text.")
    )

    objects = TaskQuerySet.as_manager()

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        ordering = ["simulation", "order"]
        constraints = [models.UniqueConstraint(fields=["simulation", "order"], name="one_task_per_place")]

    def __str__(self) -> str:
        return f"{self.order}. {self.brief.title}"

    @property
    def title(self) -> str:
        return self.brief.title

    @property
    def total(self) -> int:
        return self.simulation.total

    @property
    def question(self) -> str:
        return self.generation.text

    @property
    def is_submitted(self) -> bool:
        return hasattr(self, "submission")

    @property
    def can_be_answered(self) -> bool:
        """Whether there is a text to answer: whole, or as far as the learner wanted it."""
        return self.generation.status == Generation.Status.COMPLETED or self.generation.was_stopped

    @property
    def seconds_left(self) -> int:
        limit = self.time_limit_minutes * 60
        if self.clock_started_at is None:
            return limit
        return max(0, limit - int((timezone.now() - self.clock_started_at).total_seconds()))

    def start_clock(self) -> None:
        """Start the clock if the text is there and it does not run yet."""
        if self.can_be_answered and self.clock_started_at is None:
            Task.objects.filter(pk=self.pk, clock_started_at=None).update(clock_started_at=timezone.now())
            self.refresh_from_db(fields=["clock_started_at"])  # another tab may have been first


class Submission(models.Model):
    """The answer handed in for a task. There is one, and it is never changed."""

    task = models.OneToOneField(Task, on_delete=models.CASCADE, related_name="submission", verbose_name=_("task"))
    answer = models.TextField(_("answer"), blank=True)
    created_at = models.DateTimeField(_("handed in"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("submission")
        verbose_name_plural = _("submissions")
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["created_at"], name="submission_created")]

    def __str__(self) -> str:
        return f"{self.task}"
