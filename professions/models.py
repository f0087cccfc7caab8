from typing import Any, TypedDict

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Count, Sum
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django_stubs_ext import WithAnnotations

from generation.models import Generation

MOST_MINUTES = 240
MOST_POINTS = 100


class Level(TypedDict):
    """What an answer worth so many points looks like."""

    points: int
    description: str


class Totals(TypedDict):
    """What `ProfessionQuerySet.with_totals` adds."""

    task_count: int
    total_minutes: int


class ProfessionQuerySet(models.QuerySet["Profession"]):
    def published(self) -> "ProfessionQuerySet":
        return self.filter(published=True)

    def with_totals(self) -> "models.QuerySet[WithAnnotations[Profession, Totals]]":
        totals = {"task_count": Count("briefs"), "total_minutes": Sum("briefs__time_limit_minutes", default=0)}
        return self.annotate(**totals)  # type: ignore[return-value]  # the plugin takes a sum for Any


class Profession(models.Model):
    slug = models.SlugField(_("slug"), unique=True)
    language = models.CharField(_("language"), max_length=12, default="en")
    title = models.CharField(_("title"), max_length=120)
    tagline = models.CharField(_("tagline"), max_length=200, help_text=_("One sentence for the catalogue."))
    description = models.TextField(_("description"), help_text=_("Markdown, for the profession's page."))
    system_prompt = models.TextField(
        _("system prompt"), help_text=_("Tells the model the world, its people and the style. No learner sees it.")
    )
    report_opening = models.TextField(
        _("report opening"), help_text=_("Markdown. How a report starts when no model writes it.")
    )
    report_closing = models.TextField(_("report closing"), help_text=_("Markdown. What to try next."))
    published = models.BooleanField(_("published"), default=True)
    position = models.PositiveSmallIntegerField(_("position"), default=0, help_text=_("Lower comes first."))
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    loaded = models.JSONField(default=dict, editable=False)  # digests of what a pack gave (loading.py)

    objects = ProfessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("profession")
        verbose_name_plural = _("professions")
        ordering = ["position", "title"]

    def __str__(self) -> str:
        return self.title

    @cached_property
    def ordered_briefs(self) -> list["Brief"]:
        return list(self.briefs.order_by("order", "pk"))


class Brief(models.Model):
    profession = models.ForeignKey(
        Profession, on_delete=models.CASCADE, related_name="briefs", verbose_name=_("profession")
    )
    order = models.PositiveSmallIntegerField(_("order"))
    slug = models.SlugField(_("slug"))
    title = models.CharField(_("title"), max_length=120)
    time_limit_minutes = models.PositiveSmallIntegerField(
        _("time limit (minutes)"), validators=[MinValueValidator(1), MaxValueValidator(MOST_MINUTES)]
    )
    description = models.TextField(
        _("description"), help_text=_("For the model: situation, facts, figures and the dilemma. No learner sees it.")
    )
    authored_text = models.TextField(
        _("authored text"), help_text=_("Markdown. The complete task, shown when no model writes it.")
    )
    expert_answer = models.TextField(_("expert answer"), help_text=_("Markdown. Shown in the report, never before."))
    loaded = models.JSONField(default=dict, editable=False)  # digests of what a pack gave (loading.py)

    class Meta:
        verbose_name = _("brief")
        verbose_name_plural = _("briefs")
        ordering = ["profession", "order", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["profession", "slug"], name="one_brief_per_slug"),
            models.CheckConstraint(condition=models.Q(time_limit_minutes__gte=1), name="brief_time_limit_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.order}. {self.title}"


class Criterion(models.Model):
    brief = models.ForeignKey(Brief, on_delete=models.CASCADE, related_name="criteria", verbose_name=_("brief"))
    order = models.PositiveSmallIntegerField(_("order"))
    slug = models.SlugField(_("slug"))
    title = models.CharField(_("title"), max_length=120)
    points = models.PositiveSmallIntegerField(
        _("points"),
        help_text=_("The most this criterion can give."),
        validators=[MinValueValidator(1), MaxValueValidator(MOST_POINTS)],
    )
    levels = models.JSONField(
        _("levels"),
        help_text=_('A list such as [{"points": 0, "description": "…"}, …], rising from 0 to the points above.'),
    )
    loaded = models.JSONField(default=dict, editable=False)  # digests of what a pack gave (loading.py)

    class Meta:
        verbose_name = _("criterion")
        verbose_name_plural = _("criteria")
        ordering = ["brief", "order"]
        constraints = [models.UniqueConstraint(fields=["brief", "slug"], name="one_criterion_per_slug")]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        problem = problem_with_levels(self.levels, maximum=self.points)
        if problem:
            raise ValidationError({"levels": problem})


class Variant(models.Model):
    """One model's idea of a brief's text, written so that staff can compare; readable by its generation's UUID."""

    brief = models.ForeignKey(Brief, on_delete=models.CASCADE, related_name="variants", verbose_name=_("brief"))
    number = models.PositiveSmallIntegerField(_("number"))
    generation = models.OneToOneField(
        Generation, on_delete=models.CASCADE, related_name="variant", verbose_name=_("generation")
    )

    class Meta:
        verbose_name = _("variant")
        verbose_name_plural = _("variants")
        ordering = ["-generation__created_at", "number"]

    def __str__(self) -> str:
        return f"{self.brief}, {self.number}: {self.generation.only_model}"


def problem_with_levels(levels: Any, *, maximum: int | None) -> str:
    """Return what is wrong with a criterion's levels and what to do; an empty string when nothing is.

    `maximum` is the criterion's points; None when those are at fault themselves.
    """
    if not isinstance(levels, list) or len(levels) < 2:
        return gettext("write a list of at least two levels")
    for level in levels:
        if not isinstance(level, dict) or set(level) != {"points", "description"}:
            return gettext("write each level with the two entries points and description")
        if type(level["points"]) is not int or not _is_text(level["description"]):
            return gettext("write whole points and a description that is not empty in each level")
    points = [level["points"] for level in levels]
    if points != sorted(set(points)):
        return gettext("let the points of the levels rise; they are %(points)s") % {"points": points}
    top = points[-1] if maximum is None else maximum
    if (points[0], points[-1]) != (0, top):
        text = gettext("let the levels go from 0 to the criterion's %(top)s points; they go from %(first)s to %(last)s")
        return text % {"top": top, "first": points[0], "last": points[-1]}
    return ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
