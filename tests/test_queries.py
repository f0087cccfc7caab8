"""What a learner's steps ask of the database stays the same as professions grow, and no step reads prompts."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from generation.kinds import kind_of
from generation.models import Generation
from tasks import running
from tasks.models import Simulation
from tests.conftest import make_profession

pytestmark = pytest.mark.django_db


def statements(work: Callable[[], object]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        work()
    return [query["sql"] for query in captured]


def at_its_last_task(user: User, *, briefs: int) -> Simulation:
    profession = make_profession(f"gardener-{briefs}", briefs=briefs)
    simulation = running.open_simulation(user=user, profession=profession, language="en")
    while simulation.current_order < briefs:
        Generation.objects.update(status="completed", text="A question.")
        running.submit(user=user, task_id=simulation.current_task.pk, answer="Mulch.")
        simulation = running.find(user, pk=simulation.pk)
    Generation.objects.update(status="completed", text="A question.", messages=[{"role": "user", "content": "Write."}])
    return running.find(user, pk=simulation.pk)


def finished(user: User, *, briefs: int) -> Simulation:
    simulation = at_its_last_task(user, briefs=briefs)
    running.submit(user=user, task_id=simulation.current_task.pk, answer="Mulch.")
    Generation.objects.update(status="completed", text="A text.")
    return simulation


def test_handing_in_the_last_answer_costs_the_same_however_many_tasks_there_were(alice: User) -> None:
    def hand_in(briefs: int) -> list[str]:
        task = at_its_last_task(alice, briefs=briefs).current_task
        return statements(lambda: running.submit(user=alice, task_id=task.pk, answer="Mulch."))

    few, many = hand_in(2), hand_in(10)
    assert len(few) == len(many)
    begun = next(number for number, sql in enumerate(many) if sql.startswith(("BEGIN", "SAVEPOINT")))
    ended = next(number for number, sql in enumerate(many) if sql.startswith(("COMMIT", "RELEASE")))
    assert ended - begun < 12, "what the write lock is held for"


@pytest.mark.parametrize("name", ["", "/report"])
def test_a_page_costs_the_same_however_many_tasks_it_shows(alice: User, name: str, static_files: None) -> None:
    client = Client()
    client.force_login(alice)

    def look(briefs: int) -> list[str]:
        make = finished if name else at_its_last_task
        path = f"/simulations/{make(alice, briefs=briefs).pk}{name}"
        client.get(path)
        return statements(lambda: client.get(path))

    few, many = look(2), look(10)
    assert len(few) == len(many)


def test_no_page_and_no_step_reads_prompts(alice: User, static_files: None) -> None:
    simulation = finished(alice, briefs=3)
    client = Client()
    client.force_login(alice)
    task = at_its_last_task(alice, briefs=2).current_task

    def look_at_everything() -> None:
        for path in (
            "/",
            "/simulations",
            f"/simulations/{task.simulation_id}",
            f"/simulations/{simulation.pk}/report",
            f"/api/simulations/{simulation.pk}",
            f"/api/generations/{task.generation_id}",
        ):
            assert client.get(path).status_code == 200, path
        running.submit(user=alice, task_id=task.pk, answer="Mulch.")

    read = [sql for sql in statements(look_at_everything) if sql.startswith("SELECT")]
    assert not [sql for sql in read if '"messages"' in sql]
    request = kind_of(task.generation).request(task.generation)
    assert request.messages[0]["content"] == "Write.", "who asks a model goes on with what was asked before"
