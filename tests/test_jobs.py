"""Periodic jobs: one process at a time runs each, and one that fails or dies is run again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from generation import jobs
from generation.jobs import Jobs
from generation.models import Job
from generation.offload import offload
from tests.waiting import run_async

DAY = 24 * 3600
SOON = 30.0

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often whether a job is due."""
    monkeypatch.setattr(jobs, "MOST_SECONDS_BETWEEN_LOOKS", 0.02)


def run_until(condition: Callable[[], bool], *processes: Jobs) -> None:
    async def scenario() -> None:
        for process in processes:
            process.start()
        async with asyncio.timeout(SOON):
            while not await offload(condition):
                await asyncio.sleep(0.01)  # between two looks at the condition
        for process in processes:
            await process.stop()

    run_async(scenario())


def has_run(name: str) -> bool:
    return Job.objects.filter(name__endswith=name, due_at__gt=timezone.now(), lease_owner="").exists()


def test_of_many_processes_one_runs_a_job_and_none_does_so_before_it_is_due_again() -> None:
    ran: list[str] = []
    looks: list[int] = []

    def count() -> None:
        ran.append("ran")

    async def look() -> None:
        looks.append(1)

    processes = [Jobs(owner=f"process {number}") for number in range(4)]
    for process in processes:
        process.every(DAY, count)
        process.every(0.02, look, in_each_process=True)
    run_until(lambda: len(looks) > 100, *processes)
    assert ran == ["ran"]
    job = Job.objects.get(name__endswith="count")
    assert timezone.now() < job.due_at - timedelta(hours=23)
    assert not job.has_failed


def test_a_job_that_is_due_again_runs_again() -> None:
    ran: list[str] = []
    process = Jobs(owner="one")
    process.every(DAY, lambda: ran.append("ran"))
    run_until(lambda: has_run("<lambda>"), process)
    Job.objects.update(due_at=F("due_at") - timedelta(days=1))
    run_until(lambda: len(ran) == 2, process)


def test_a_job_whose_process_died_is_run_by_another() -> None:
    ran: list[str] = []

    def work() -> None:
        ran.append("ran")

    name = f"{work.__module__}.{work.__qualname__}"
    assert Job.objects.claim(name, owner="dead")
    assert not Job.objects.claim(name, owner="alive"), "while the lease runs"
    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    process = Jobs(owner="alive")
    process.every(DAY, work)
    run_until(lambda: ran == ["ran"], process)
    assert not Job.objects.renew(name, owner="dead")
    Job.objects.finish(name, owner="dead", took_seconds=1, again_after_seconds=0, has_failed=True)
    assert not Job.objects.get().has_failed, "what the dead one comes back with does not count"


@pytest.mark.parametrize("is_async", [True, False])
def test_a_job_that_fails_is_logged_told_to_staff_and_tried_again_soon(
    caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def afail() -> None:
        raise ZeroDivisionError

    job: Callable[[], Awaitable[object] | object] = afail if is_async else fail
    process = Jobs(owner="one")
    process.every(DAY, job)
    run_until(lambda: Job.objects.filter(has_failed=True).exists(), process)
    assert timezone.now() < Job.objects.get().due_at < timezone.now() + timedelta(hours=1)
    assert f"failed, job={job.__module__}.{job.__qualname__}" in caplog.messages


def test_a_lease_is_renewed_for_as_long_as_a_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RENEW_SECONDS", 0.01)
    leases: set[object] = set()

    async def work() -> None:
        async with asyncio.timeout(SOON):
            while len(leases) < 3:
                leases.add(await offload(Job.objects.values_list("lease_expires_at", flat=True).get))

    process = Jobs(owner="one")
    process.every(DAY, work)
    run_until(lambda: has_run("work"), process)
    assert not Job.objects.get().has_failed


def test_a_job_that_is_not_due_is_only_read() -> None:
    assert Job.objects.claim("a job", owner="one")
    Job.objects.finish("a job", owner="one", took_seconds=1, again_after_seconds=DAY, has_failed=False)
    with CaptureQueriesContext(connection) as asked:
        assert not Job.objects.claim("a job", owner="one")
    assert all(query["sql"].startswith("SELECT") for query in asked)
