"""The levels of a criterion: what an answer looks like that is worth so many points, and what follows from it."""

import re
from collections.abc import Collection
from typing import Any, NotRequired, TypedDict

from django.utils.translation import gettext

# A level must be understood by itself: each is shown, and handed to the model, alone.
_LEANS_ON_ANOTHER = re.compile(
    r"(as|like|same as|also|plus) (before|above|the (one|level) (before|above))\b", re.IGNORECASE
)
LARGEST_EFFECT = 1_000_000


class Level(TypedDict):
    """What an answer worth so many points looks like, and what it does to the state of a run.

    `effects` are changes of state variables by their keys; `because` says in a clause why, to the learner; `note` is a
    fact that the next task takes up.
    """

    points: int
    description: str
    effects: NotRequired[dict[str, int]]
    because: NotRequired[str]
    note: NotRequired[str]


_ALWAYS = {"points", "description"}
_SOMETIMES = {"effects", "because", "note"}


def problem_with_levels(levels: Any, *, maximum: int | None, variables: Collection[str] | None = None) -> str:
    """Return what is wrong with a criterion's levels and what to do; an empty string when nothing is.

    Args:
        maximum: the criterion's points; None when those are at fault themselves.
        variables: the keys that effects may name; None when those are at fault themselves.
    """
    if not isinstance(levels, list) or len(levels) < 2:
        return gettext("write a list of at least two levels")
    for level in levels:
        if not isinstance(level, dict) or not _ALWAYS <= set(level) <= _ALWAYS | _SOMETIMES:
            return gettext(
                "write each level with the two entries points and description, and where something follows from it "
                "effects with because, and note"
            )
        if type(level["points"]) is not int or not is_text(level["description"]):
            return gettext("write whole points and a description that is not empty in each level")
        if problem := _problem_with_effects(level, variables):
            return problem
    points = [level["points"] for level in levels]
    if points != sorted(set(points)):
        return gettext("let the points of the levels rise; they are %(points)s") % {"points": points}
    top = points[-1] if maximum is None else maximum
    if (points[0], points[-1]) != (0, top):
        text = gettext("let the levels go from 0 to the criterion's %(top)s points; they go from %(first)s to %(last)s")
        return text % {"top": top, "first": points[0], "last": points[-1]}
    return ""


def leaning_level(levels: list[Level]) -> str:
    """Return the description of a level that cannot be understood without another one, empty where there is none."""
    return next((level["description"] for level in levels if _LEANS_ON_ANOTHER.match(level["description"])), "")


def _problem_with_effects(level: dict[str, Any], variables: Collection[str] | None) -> str:
    effects = level.get("effects", {})
    if not isinstance(effects, dict) or not all(
        type(change) is int and 0 < abs(change) <= LARGEST_EFFECT for change in effects.values()
    ):
        return gettext("write effects as whole numbers by the key of a state variable, such as {trust: -15}")
    if variables is not None and (unknown := sorted(set(map(str, effects)) - set(variables))):
        text = gettext("name state variables of the profession in effects; %(unknown)s is none of %(known)s")
        return text % {"unknown": unknown[0], "known": ", ".join(sorted(variables)) or "-"}
    if bool(effects) != is_text(level.get("because")):
        return gettext("say why in because where a level has effects, and only there")
    if "note" in level and not is_text(level["note"]):
        return gettext("write a note that is not empty, or none")
    return ""


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
