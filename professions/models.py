from typing import TypedDict

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator, URLValidator
from django.db import models
from django.db.models import Count, Sum
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django_stubs_ext import WithAnnotations

from generation.models import Generation
from professions.levels import Level, problem_with_levels

MOST_MINUTES = 240
MOST_POINTS = 100
MOST_WORDS = 2000


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
    occupation = models.CharField(
        _("occupation"),
        max_length=10,
        blank=True,
        validators=[RegexValidator(r"^\d{2}-\d{4}\.\d{2}$", _("Write an O*NET-SOC code such as 29-1141.00."))],
        help_text=_("The O*NET-SOC code, such as 29-1141.00."),
    )
    esco = models.CharField(
        _("ESCO occupation"),
        max_length=200,
        blank=True,
        validators=[URLValidator()],
        help_text=_("Its URI, where there is one."),
    )
    time_rule = models.CharField(
        _("time rule"),
        max_length=8,
        default="soft",
        choices=[("soft", _("soft: the overrun is shown")), ("hard", _("hard: at zero what is there is handed in"))],
    )
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


class Competency(models.Model):
    """Something that several criteria of a profession look at; the report adds up by it."""

    profession = models.ForeignKey(
        Profession, on_delete=models.CASCADE, related_name="competencies", verbose_name=_("profession")
    )
    order = models.PositiveSmallIntegerField(_("order"))
    slug = models.SlugField(_("slug"))
    title = models.CharField(_("title"), max_length=80)
    loaded = models.JSONField(default=dict, editable=False)  # digests of what a pack gave (loading.py)

    class Meta:
        verbose_name = _("competency")
        verbose_name_plural = _("competencies")
        ordering = ["profession", "order"]
        constraints = [models.UniqueConstraint(fields=["profession", "slug"], name="one_competency_per_slug")]

    def __str__(self) -> str:
        return self.title


class StateVariable(models.Model):
    """A number that a run moves, by the effects of the levels that its answers reach."""

    class Good(models.TextChoices):
        UP = "up", _("more is better")
        DOWN = "down", _("less is better")

    class ShownAs(models.TextChoices):
        GAUGE = "gauge", _("gauge")
        AMOUNT = "amount", _("amount")
        LEVEL = "level", _("level")

    profession = models.ForeignKey(
        Profession, on_delete=models.CASCADE, related_name="variables", verbose_name=_("profession")
    )
    order = models.PositiveSmallIntegerField(_("order"))
    slug = models.SlugField(_("key"), help_text=_("What effects name."))
    title = models.CharField(_("title"), max_length=80)
    unit = models.CharField(_("unit"), max_length=20, blank=True)
    start = models.IntegerField(_("start"))
    minimum = models.IntegerField(_("minimum"), default=0)
    maximum = models.IntegerField(_("maximum"), default=100)
    good = models.CharField(_("good is"), max_length=4, choices=Good, default=Good.UP)
    shown_as = models.CharField(_("shown as"), max_length=8, choices=ShownAs, default=ShownAs.GAUGE)
    loaded = models.JSONField(default=dict, editable=False)  # digests of what a pack gave (loading.py)

    class Meta:
        verbose_name = _("state variable")
        verbose_name_plural = _("state variables")
        ordering = ["profession", "order"]
        constraints = [
            models.UniqueConstraint(fields=["profession", "slug"], name="one_variable_per_key"),
            models.CheckConstraint(
                condition=models.Q(minimum__lte=models.F("start"), start__lte=models.F("maximum")),
                name="variable_starts_within_its_range",
                violation_error_message=_("Let the start lie between minimum and maximum."),
            ),
        ]

    def __str__(self) -> str:
        return self.title


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
    aim_words = models.PositiveSmallIntegerField(
        _("aim for words"),
        null=True,
        blank=True,
        validators=[MinValueValidator(10), MaxValueValidator(MOST_WORDS)],
        help_text=_("About how long a good answer is; nobody is marked by it."),
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
    competency = models.ForeignKey(
        Competency,
        on_delete=models.SET_NULL,
        related_name="criteria",
        null=True,
        blank=True,
        verbose_name=_("competency"),
    )
    most_without_quotation = models.PositiveSmallIntegerField(
        _("most without a quotation"),
        default=0,
        help_text=_("The most points for an answer of which no passage can be quoted, such as for leaving something."),
    )
    levels = models.JSONField(
        _("levels"),
        help_text=_(
            'A list such as [{"points": 0, "description": "…"}, …], rising from 0 to the points above. A level may '
            'have "effects" on state variables, such as {"trust": -15}, with "because", and a "note" for the next task.'
        ),
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
        # While a brief is being made it may not be known yet whose it is.
        profession = self.brief.profession if self.brief_id and self.brief.profession_id else None
        variables = list(profession.variables.values_list("slug", flat=True)) if profession else None
        problem = problem_with_levels(self.levels, maximum=self.points, variables=variables)
        if problem:
            raise ValidationError({"levels": problem})
        if self.points is not None and self.most_without_quotation > self.points:
            raise ValidationError({"most_without_quotation": _("It is more than the criterion can give.")})
        if self.competency is not None and profession is not None and self.competency.profession_id != profession.pk:
            raise ValidationError({"competency": _("Choose one of this brief's profession.")})

    @property
    def typed_levels(self) -> list[Level]:
        return list(self.levels)


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
