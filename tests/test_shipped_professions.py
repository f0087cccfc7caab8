"""The professions that come with the site: what they declare, and where good and poor runs end."""

import re

import pytest

from professions.loading import load_packs
from professions.models import Profession, StateVariable
from professions.packs import SHIPPED
from tasks import state
from tasks.marking.rubric import rubric_of
from tasks.models import Assessment, Mark

pytestmark = pytest.mark.django_db

# What somebody practised writes, thinking included; signs, figures and tables apart.
WORDS_A_MINUTE = 15
SLUGS = ["nurse", "project-manager", "site-reliability-engineer"]


@pytest.fixture
def profession(request: pytest.FixtureRequest) -> Profession:
    load_packs([SHIPPED / f"{request.param}.yaml"])
    return Profession.objects.get(slug=request.param)


each = pytest.mark.parametrize("profession", SLUGS, indirect=True)


def ends(profession: Profession, *, best: bool) -> list[tuple[StateVariable, int]]:
    """Return where each variable ends when all answers reach the highest level, or the lowest."""
    assessments = []
    for brief in profession.ordered_briefs:
        assessment = Assessment(rubric=rubric_of(brief), status="marked")
        assessment.ordered_marks = [
            Mark(criterion=one["slug"], points=one["points"] if best else 0) for one in assessment.criteria
        ]
        assessments.append((brief.order, assessment))
    now = state.compute(profession.variables.all(), assessments)
    return [(value.variable, value.value) for value in now.values]


@each
def test_it_declares_competencies_a_state_an_occupation_and_aims(profession: Profession) -> None:
    assert profession.occupation
    assert 2 <= profession.variables.count() <= 4
    assert 3 <= profession.competencies.count() <= 5
    for brief in profession.ordered_briefs:
        assert brief.aim_words
        words = [one for one in brief.expert_answer.split() if re.search(r"[^\W\d_]{2,}", one)]
        assert len(words) <= WORDS_A_MINUTE * brief.time_limit_minutes, "it can be written within the limit"
        for criterion in rubric_of(brief):
            assert criterion["competency"], criterion["slug"]
            assert criterion["levels"][0].get("effects"), criterion["slug"]


@each
def test_good_runs_end_better_than_they_began_and_poor_ones_worse_without_reaching_a_limit(
    profession: Profession,
) -> None:
    for is_best in (True, False):
        for variable, value in ends(profession, best=is_best):
            gain = (value - variable.start) * (1 if variable.good == "up" else -1)
            assert (gain > 0) is is_best, (variable.slug, value)
            assert variable.minimum < value < variable.maximum, variable.slug
