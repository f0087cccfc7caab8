"""A text that its learner stopped stays until they want another; then its clock begins anew, unless it was answered."""

import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from generation.models import LEASE, RENEW_SECONDS, Generation
from professions.models import Profession
from tasks import running
from tasks.models import Simulation, Submission, Task
from tests.client import Client, text_of, types_of
from tests.conftest import ROOT, SECRET_KEY, Server
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.stores import Postgres
from tests.viewers import sweep_and_finish
from tests.waiting import wait_until
from web.problems import Conflict

KEPT = "Only this much."


def current(profession: Profession) -> str:
    return f"/api/tasks/profession/{profession.pk}/current"


@pytest.fixture
def stopped(as_alice: Client, alice: User, profession: Profession) -> Simulation:
    """A run whose first text was stopped, and looked at an hour ago."""
    return stop(running.open_simulation(user=alice, profession=profession, language="en"))


def stop(simulation: Simulation, text: str = KEPT) -> Simulation:
    texts = Generation.objects.filter(pk=simulation.current_text.pk)
    texts.update(
        source="model",
        authored_because="",
        status="cancelled",
        fault="cancelled",
        text=text,
        epoch=1,
        finished_at=timezone.now(),
    )
    Task.objects.update(clock_started_at=timezone.now() - timedelta(hours=1))
    return simulation


def rewrite(client: Client, simulation: Simulation) -> int:
    return client.post(f"/api/simulations/{simulation.pk}/rewrite", {}).status_code


def test_looking_at_a_stopped_text_in_whichever_way_keeps_it(
    as_alice: Client, profession: Profession, stopped: Simulation, provider: FakeOpenAI
) -> None:
    events = as_alice.events(f"{current(profession)}/stream")
    assert (text_of(events), events[-1]["data"]["code"]) == (KEPT, "cancelled")
    task = as_alice.get(current(profession)).json()
    assert (task["question"], task["seconds_left"]) == (KEPT, 0)
    answered = as_alice.post(f"/api/tasks/{task['id']}/submit", {"answer": "Mulch."}).json()
    following = Simulation.objects.get()
    assert answered["next_task"]["question"] == following.current_text.text
    stop(following)
    again = as_alice.post(f"/api/tasks/{task['id']}/submit", {"answer": "Mulch."}).json()
    assert again["next_task"]["question"] == KEPT
    assert text_of(as_alice.events(f"/api/tasks/{task['id']}/submit/stream", body={"answer": "Mulch."})) == KEPT
    assert len(provider.requests) == 1


def test_of_a_text_that_was_stopped_before_its_first_word_there_is_nothing_to_keep(
    as_alice: Client, alice: User, profession: Profession, provider: FakeOpenAI
) -> None:
    stop(running.open_simulation(user=alice, profession=profession, language="en"), "")
    assert types_of(as_alice.events(f"{current(profession)}/stream"))[-1] == "done"
    assert len(provider.requests) == 1


def test_a_text_that_is_wanted_again_is_written_and_its_clock_begins_anew(
    as_alice: Client, profession: Profession, stopped: Simulation, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(text="Another text.")
    assert rewrite(as_alice, stopped) == 200
    assert Task.objects.get().clock_started_at is None
    *_, done = as_alice.events(f"{current(profession)}/stream")
    assert done["data"]["full_text"] == "Another text."
    assert done["data"]["seconds_left"] > 590
    assert rewrite(as_alice, stopped) == 409, "a whole text is not written again"
    assert Generation.objects.get().text == "Another text."


def test_a_text_that_was_answered_in_another_tab_stays(as_alice: Client, stopped: Simulation) -> None:
    task = stopped.current_task
    running.submit(user=stopped.user, task_id=task.pk, answer="Mulch.")
    Generation.objects.exclude(pk=task.generation_id).update(status="completed", text="The next.")
    assert rewrite(as_alice, stopped) == 409
    task.refresh_from_db()
    assert (task.generation.text, task.clock_started_at is None) == (KEPT, False)


def test_an_answer_to_a_text_that_another_tab_has_written_anew_is_refused(
    as_alice: Client, stopped: Simulation
) -> None:
    running.rewrite(user=stopped.user, simulation_id=stopped.pk)
    refused = as_alice.post(f"/api/tasks/{stopped.current_task.pk}/submit", {"answer": "Mulch."})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_ready")
    assert not Submission.objects.exists()


def test_a_superseded_run_is_not_written_again(as_alice: Client, stopped: Simulation) -> None:
    running.start_afresh(user=stopped.user, profession=stopped.profession, language="en")
    assert rewrite(as_alice, stopped) == 409
    assert Generation.objects.filter(text=KEPT).exists()


def test_of_answering_and_writing_again_at_the_same_moment_one_wins_on_postgresql(postgres: Postgres) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', verbosity=0)\n"
        "from django.db import connections\n"
        "from accounts.models import User\n"
        "from generation.models import Generation\n"
        "from tasks import running\n"
        "from tasks.models import Submission\n"
        "from tests.conftest import make_profession\n"
        "from web.problems import Conflict\n"
        "profession = make_profession('rewriting')\n"
        "user = User.objects.create(username='rewriting')\n"
        "def attempt(work):\n"
        "    try: return work() and True\n"
        "    except Conflict: return False\n"
        "    finally: connections.close_all()\n"
        "wrong = []\n"
        "with ThreadPoolExecutor(2) as threads:\n"
        "    for number in range(30):\n"
        "        run = running.start_afresh(user=user, profession=profession, language='en')\n"
        "        task = run.current_task\n"
        "        kept = Generation.objects.filter(pk=task.generation_id)\n"
        "        kept.update(status='cancelled', text='Kept.', epoch=1)\n"
        "        tabs = [lambda: running.submit(user=user, task_id=task.pk, answer='Mulch.'),\n"
        "                lambda: running.rewrite(user=user, simulation_id=run.pk)]\n"
        "        list(threads.map(attempt, tabs if number % 2 else tabs[::-1]))\n"
        "        is_answered = Submission.objects.filter(task=task).exists()\n"
        "        if is_answered != (kept.get().text == 'Kept.'): wrong.append(number)\n"
        "print('wrong', wrong)\n"
    )
    shell = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
    environment = {"DATABASE_URL": postgres.url, "SECRET_KEY": SECRET_KEY, "FRESH_STARTS_PER_HOUR": "0"}
    printed = subprocess.run(shell, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "wrong []" in printed.stdout


@pytest.mark.django_db
def test_what_is_to_be_written_again_is_looked_at_again_when_it_is(alice: User, profession: Profession) -> None:
    simulation = stop(running.open_simulation(user=alice, profession=profession, language="en"))
    Generation.objects.update(status="running")
    assert running.rewrite(user=alice, simulation_id=simulation.pk).text == KEPT, "it is being written"
    Generation.objects.update(status="completed")
    with pytest.raises(Conflict):
        running.rewrite(user=alice, simulation_id=simulation.pk)


class TestDisabledPeople:
    @pytest.mark.django_db(transaction=True)
    def test_have_no_text_claimed_or_taken_over(self, alice: User, profession: Profession) -> None:
        text = running.open_simulation(user=alice, profession=profession, language="en").current_text
        User.objects.update(is_active=False)
        assert Generation.objects.claim(text.pk, owner="one") is None
        User.objects.update(is_active=True)
        assert Generation.objects.claim(text.pk, owner="one") is not None
        User.objects.update(is_active=False)
        Generation.objects.update(lease_expires_at=timezone.now() - LEASE)
        sweep_and_finish()
        assert (Generation.objects.get().status, Generation.objects.get().text) == ("cancelled", "")

    def test_have_a_text_stopped_that_is_being_written(
        self, server: Server, as_alice: Client, profession: Profession, provider: FakeOpenAI
    ) -> None:
        provider.default = Behaviour(hold_after=1)
        with as_alice.stream(f"{current(profession)}/stream") as stream:
            stream.until("token")
            User.objects.update(is_active=False)
            wait_until(
                lambda: Generation.objects.get().status == "cancelled", what="the stop", seconds=10 * RENEW_SECONDS
            )
        provider.wait_for(lambda fake: fake.requests[0].disconnected)
