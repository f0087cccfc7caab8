"""What pages cost beside nothing else: their time at a steady rate of requests, and their queries as rows grow."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from professions.models import Brief, Profession
from tasks import running
from tests.benchmarks import learners, servers
from tests.benchmarks.readers import Request, read_all
from tests.benchmarks.table import Row

PER_SECOND = 20.0
REQUESTS = 400
AIM_MILLISECONDS = 50.0
FEW_ROWS, MANY_ROWS = 10, 200


async def measure(directory: Path, *, quick: bool) -> AsyncIterator[Row]:
    learner, pages = await asyncio.to_thread(_learner_with_pages)
    session = await asyncio.to_thread(learners.session_of, learner)
    with servers.product(directory, environment={}) as server:
        for name, path in pages.items():
            headers = (("Cookie", f"{settings.SESSION_COOKIE_NAME}={session}"),)
            yield await _timed(name, Request(server.url + path, headers), 20 if quick else REQUESTS)
        for row in await asyncio.to_thread(_query_rows, learner, session, pages, 20 if quick else MANY_ROWS):
            yield row


def _learner_with_pages() -> tuple[User, dict[str, str]]:
    learner = learners.new_learner()
    first, second = Profession.objects.published().order_by("pk")[:2]
    task = learners.simulation_at_its_first_task(learner, first)
    report = learners.finished_simulation(learner, second)
    return learner, {
        "catalogue": "/",
        "task page": f"/simulations/{task.pk}",
        "report page": f"/simulations/{report.pk}/report",
    }


async def _timed(name: str, request: Request, count: int) -> Row:
    readers = await read_all([request] * count, per_second=PER_SECOND)
    await asyncio.gather(*(reader.end() for reader in readers))
    broken = sum(not reader.ok for reader in readers)
    if broken:
        raise servers.Spoiled(f"{broken} of {count} answers of the {name} were refusals")
    p95 = statistics.quantiles([reader.whole_seconds for reader in readers], n=20, method="inclusive")[18] * 1000
    return Row(
        f"{name} at {PER_SECOND:g} requests/s, p95",
        f"{p95:.1f} ms",
        aim=f"< {AIM_MILLISECONDS:g} ms",
        met=p95 < AIM_MILLISECONDS,
    )


def _query_rows(learner: User, session: str, pages: dict[str, str], many: int) -> list[Row]:
    _add_rows(learner, FEW_ROWS)
    few = {name: _queries(path, session) for name, path in pages.items()}
    _add_rows(learner, many - FEW_ROWS)
    return [
        Row(
            f"{name}: queries with {many} professions and simulations",
            str(_queries(path, session)),
            f"{few[name]} with {FEW_ROWS}",
            aim="the same",
            met=_queries(path, session) == few[name],
        )
        for name, path in pages.items()
    ]


def _queries(path: str, session: str) -> int:
    client = Client(SERVER_NAME="127.0.0.1")
    client.cookies = SimpleCookie({settings.SESSION_COOKIE_NAME: session})
    with CaptureQueriesContext(connection) as queries:
        status = client.get(path).status_code
    if status != 200:
        raise servers.Spoiled(f"{path} answered {status}")
    return len(queries)


def _add_rows(learner: User, count: int) -> None:
    """Publish professions, and give the learner a current and an earlier simulation of each."""
    start = Profession.objects.count()
    for number in range(start, start + count):
        profession = Profession.objects.create(
            slug=f"gardener-{number}", title=f"Gardener {number}", tagline="Grows.", published=True
        )
        Brief.objects.create(
            profession=profession, order=1, slug="roses", title="Roses", time_limit_minutes=10, authored_text="Roses."
        )
        for begin in (running.open_simulation, running.start_afresh):
            begin(user=learner, profession=profession, language="en")
