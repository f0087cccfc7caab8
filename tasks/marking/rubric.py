"""What an answer is marked by, frozen with its marks."""

from collections.abc import Sequence
from typing import TypedDict

from professions.levels import Level
from professions.models import Brief


class RubricCriterion(TypedDict):
    """A criterion as it was when an answer was marked by it."""

    slug: str
    title: str
    points: int
    most_without_quotation: int
    competency: str
    levels: list[Level]


def rubric_of(brief: Brief) -> list[RubricCriterion]:
    return [
        RubricCriterion(
            slug=criterion.slug,
            title=criterion.title,
            points=criterion.points,
            most_without_quotation=criterion.most_without_quotation,
            competency=criterion.competency.slug if criterion.competency is not None else "",
            levels=criterion.typed_levels,
        )
        for criterion in brief.criteria.select_related("competency").order_by("order", "pk")
    ]


def level_for(levels: Sequence[Level], points: int) -> Level:
    """Return the highest level that so many points reach."""
    return next((level for level in reversed(levels) if level["points"] <= points), levels[0])
