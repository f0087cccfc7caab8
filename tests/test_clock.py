"""The clock of a task starts once, when its learner first has the whole text."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from generation.models import Generation
from professions.models import Profession
from tasks import running
from tasks.models import Task

pytestmark = pytest.mark.django_db


@pytest.fixture
def task(alice: User, profession: Profession) -> Task:
    running.open_simulation(user=alice, profession=profession, language="en")
    Generation.objects.update(status="completed", text="A question.")
    return Task.objects.get()


def test_a_later_look_does_not_start_it_again(task: Task) -> None:
    earlier = timezone.now() - timedelta(minutes=4)
    Task.objects.update(clock_started_at=earlier)
    for _ in range(2):
        looked_at = Task.objects.get()
        looked_at.start_clock()
        assert looked_at.clock_started_at == earlier
    assert Task.objects.get().clock_started_at == earlier
    assert 355 <= looked_at.seconds_left <= 360


def test_of_two_tabs_the_first_starts_it_and_both_show_the_same(task: Task) -> None:
    second = Task.objects.get()
    earlier = timezone.now() - timedelta(minutes=4)
    Task.objects.update(clock_started_at=earlier)  # the first tab, meanwhile
    second.start_clock()
    assert Task.objects.get().clock_started_at == earlier
    assert second.clock_started_at == earlier


@pytest.mark.parametrize("status", ["pending", "running", "failed"])
def test_a_text_that_is_not_whole_starts_none(task: Task, status: str) -> None:
    Generation.objects.update(status=status)
    looked_at = Task.objects.get()
    looked_at.start_clock()
    assert (looked_at.clock_started_at, Task.objects.get().clock_started_at) == (None, None)
