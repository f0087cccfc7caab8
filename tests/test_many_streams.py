"""Open streams hold neither threads nor database connections."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from asgiref.sync import SyncToAsync
from django.core.checks import run_checks
from django.db import connection, transaction

from accounts.models import User
from accounts.tokens import create_token
from generation.model_request import Message
from generation.models import Generation
from professions.models import Profession
from tests.conftest import KEY, Server, ServerStarter
from tests.crowd import Crowd
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.waiting import run_async

pytestmark = pytest.mark.quiet


def threads_of(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


@contextmanager
def most_threads_of(server: Server) -> Iterator[list[int]]:
    """Give the numbers of threads that were counted again and again meanwhile."""
    counts: list[int] = []
    over = Event()

    def count() -> None:
        while not over.wait(0.05):
            counts.append(threads_of(server))

    counting = Thread(target=count)
    counting.start()
    try:
        yield counts
    finally:
        over.set()
        counting.join()


def database_connections_of(server: Server) -> int:
    # Each connection opens the write-ahead log. The database file itself says nothing: SQLite keeps descriptors of
    # closed connections for the next one, because closing one would drop the locks that the process holds through
    # the others.
    database = os.path.realpath(connection.settings_dict["NAME"]) + "-wal"
    descriptors = Path(f"/proc/{server.process.pid}/fd").iterdir()
    return sum(os.path.realpath(descriptor) == database for descriptor in descriptors)


def tokens_of_new_learners(count: int) -> list[str]:
    learners = User.objects.bulk_create(User(username=f"learner-{number}") for number in range(count))
    with transaction.atomic():
        return [create_token(learner) for learner in learners]


@contextmanager
def open_files(most: int | None) -> Iterator[None]:
    """Change how many files this process and those it starts may open; None for as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most or hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_2000_open_streams_hold_few_threads_and_connections(
    start_own_server: ServerStarter, transactional_db: None, provider: FakeOpenAI
) -> None:
    with open_files(1024):
        server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    tokens = tokens_of_new_learners(2000)
    learners = User.objects.filter(is_staff=False).order_by("pk")
    messages = [Message(role="user", content="Write.")]
    generations = Generation.objects.bulk_create(
        Generation(user=learner, source="model", messages=messages) for learner in learners
    )
    urls = [f"{server.url}/api/generations/{generation.pk}/stream" for generation in generations]

    async def play() -> None:
        async with Crowd() as crowd:
            responses = []
            for some in (slice(500), slice(500, 2000)):
                with most_threads_of(server) as threads:
                    responses += await crowd.first_tokens(urls[some], tokens[some])
                assert max(threads) < 30, "also while all of them arrive at the same moment"
                assert database_connections_of(server) <= 8
                async with crowd.session.get(f"{server.url}/") as page:
                    assert page.status == 200
            provider.release()
            assert await crowd.ends_without(b'"full_text":"One two."', responses) == []

    with open_files(None):
        run_async(play())
    assert len(provider.requests) == 2000


def test_500_open_streams_are_told_to_come_back_and_the_server_leaves(
    start_own_server: ServerStarter, transactional_db: None, profession: Profession, provider: FakeOpenAI
) -> None:
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url}
    server = start_own_server(**environment)
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    tokens = tokens_of_new_learners(500)
    path = f"/api/tasks/profession/{profession.pk}/current/stream"

    async def leave() -> None:
        async with Crowd() as crowd:
            responses = await crowd.first_tokens([server.url + path], tokens)
            server.process.terminate()
            assert await crowd.ends_without(b'"type":"reconnect"', responses) == []

    async def come_back(url: str) -> None:
        async with Crowd() as crowd:
            responses = await crowd.first_tokens([url], tokens)
            assert await crowd.ends_without(b'"full_text":"One two."', responses) == []

    run_async(leave())
    # systemd kills what is still there after the time a unit names, 5 s here.
    assert server.process.wait(5) in {0, -signal.SIGTERM}
    assert set(Generation.objects.values_list("status", flat=True)) == {"pending"}
    provider.default = Behaviour(tokens=("One ", "two."))
    run_async(come_back(start_own_server(port=server.port, **environment).url + path))
    assert set(Generation.objects.values_list("status", "text")) == {("completed", "One two.")}


def test_the_start_looks_whether_threads_can_be_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class KeptElsewhere(dict[object, object]):
        def get(self, key: object, default: object = None) -> None:
            return None

    assert "simulator.E001" not in [message.id for message in run_checks()]
    monkeypatch.setattr(SyncToAsync, "context_to_thread_executor", KeptElsewhere())
    assert "simulator.E001" in [message.id for message in run_checks()]
