"""Rows do not grow without end, and nothing that somebody did is deleted."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from knox.models import AuthToken

from accounts.models import RateCount, User
from accounts.tokens import create_token
from generation.models import Attempt, Generation
from professions.models import Profession
from tasks import running
from tasks.models import Assessment, Simulation, Submission
from tasks.retention import delete_leftovers

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(days=31)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the job says."""
    with caplog.at_level("INFO", logger="tasks.retention"):
        yield caplog


def old_guest(profession: Profession) -> User:
    guest = User.objects.create_guest()
    running.open_simulation(user=guest, profession=profession, language="en")
    User.objects.filter(pk=guest.pk).update(date_joined=LONG_AGO)
    Generation.objects.filter(user=guest).update(asked_at=LONG_AGO, status="completed", text="Read.")
    return guest


def answer(user: User) -> None:
    running.submit(user=user, task_id=Simulation.objects.get(user=user).current_task.pk, answer="Something.")


def test_guests_without_any_work_are_deleted_after_a_month(
    profession: Profession, alice: User, log: pytest.LogCaptureFixture
) -> None:
    with_work, idle, begun_lately, young = (old_guest(profession) for _ in range(4))
    answer(with_work)
    Generation.objects.filter(user=with_work).update(asked_at=LONG_AGO)
    Generation.objects.filter(user=begun_lately).update(started_at=timezone.now())
    User.objects.filter(pk=young.pk).update(date_joined=timezone.now() - timedelta(days=29))
    User.objects.filter(pk=alice.pk).update(date_joined=LONG_AGO)
    delete_leftovers()
    assert log.messages == ["deleted 1 guests, 0 runs, 0 tokens, 0 prompts"]
    assert set(User.objects.all()) == {with_work, begun_lately, young, alice}
    assert not Generation.objects.filter(user=idle.pk).exists()
    assert with_work.simulations.count() == 1


def start_two(alice: User, profession: Profession) -> Simulation:
    """Start a run, look at its text, start again, and let two days pass."""
    first = running.open_simulation(user=alice, profession=profession, language="en")
    Generation.objects.update(status="completed", text="Read.", epoch=1)
    running.start_afresh(user=alice, profession=profession, language="en")
    Simulation.objects.filter(pk=first.pk).update(superseded_at=timezone.now() - timedelta(days=2))
    return first


def test_a_superseded_run_in_which_nothing_happened_is_deleted_with_its_text(
    profession: Profession, alice: User, log: pytest.LogCaptureFixture
) -> None:
    first = start_two(alice, profession)
    delete_leftovers()
    assert log.messages == ["deleted 0 guests, 1 runs, 0 tokens, 0 prompts"]
    assert Simulation.objects.exclude(pk=first.pk).get().is_current
    assert Generation.objects.get().status == "pending"
    delete_leftovers()
    assert len(log.messages) == 1, "with nothing to do it is silent"


def test_a_superseded_run_that_was_answered_stays(profession: Profession, alice: User) -> None:
    first = running.open_simulation(user=alice, profession=profession, language="en")
    Generation.objects.update(status="completed", text="Read.", epoch=1)
    answer(alice)
    running.start_afresh(user=alice, profession=profession, language="en")
    Simulation.objects.filter(pk=first.pk).update(superseded_at=LONG_AGO)
    delete_leftovers()
    assert Simulation.objects.count() == 2


def test_a_superseded_run_that_a_model_was_asked_for_stays_for_the_sums_of_spending(
    profession: Profession, alice: User
) -> None:
    first = start_two(alice, profession)
    Attempt.objects.create(generation=first.current_text, epoch=1, number=1, seconds=1, prompt_tokens=900)
    delete_leftovers()
    assert Simulation.objects.count() == 2


def test_a_run_superseded_a_moment_ago_stays_for_the_tab_that_shows_it(profession: Profession, alice: User) -> None:
    start_two(alice, profession)
    Simulation.objects.exclude(superseded_at=None).update(superseded_at=timezone.now())
    delete_leftovers()
    assert Simulation.objects.count() == 2


def test_what_has_expired_is_deleted(alice: User, log: pytest.LogCaptureFixture) -> None:
    past = timezone.now() - timedelta(days=1)
    create_token(alice)
    AuthToken.objects.update(expiry=past)
    create_token(alice)
    Session.objects.create(session_key="old", session_data="", expire_date=past)
    RateCount.objects.create(key="old", free_at=past)
    delete_leftovers()
    assert log.messages == ["deleted 0 guests, 0 runs, 1 tokens, 0 prompts"]
    assert AuthToken.objects.count() == 1
    assert not Session.objects.exists()
    assert not RateCount.objects.exists()


def test_the_prompts_of_a_run_go_a_month_after_its_report(profession: Profession, alice: User, bob: User) -> None:
    old, young = (running.open_simulation(user=user, profession=profession, language="en") for user in (alice, bob))
    for simulation in (old, young):
        simulation.report = Generation.objects.create(user=simulation.user, kind="report", status="completed")
        simulation.save()
        submission = Submission.objects.create(task=simulation.current_task, answer="Mulch.")
        marking = Generation.objects.create(user=simulation.user, kind="assessment", status="completed")
        Assessment.objects.create(submission=submission, marked_by="model", rubric=[], generation=marking)
    Generation.objects.update(messages=[{"role": "user", "content": "Write."}], text="Written.")
    Generation.objects.filter(kind="report").update(finished_at=timezone.now() - timedelta(days=29))
    Generation.objects.filter(user=alice, kind="report").update(finished_at=LONG_AGO)
    delete_leftovers()
    assert not Generation.objects.filter(user=alice).exclude(messages=[]).exists()
    assert not Generation.objects.filter(user=bob, messages=[]).exists()
    assert not Generation.objects.filter(text="").exists()
