"""Open streams hold neither threads nor database connections."""

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest
from asgiref.sync import SyncToAsync
from django.core.checks import run_checks
from django.db import connection

from accounts.models import User
from accounts.tokens import create_token
from professions.models import Profession
from tests.client import Client
from tests.conftest import Server
from tests.fake_openai import Behaviour, FakeOpenAI

STREAMS = 300


def threads_of(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def database_connections_of(server: Server) -> int:
    # Each connection opens the write-ahead log. The database file itself says nothing: SQLite keeps descriptors of
    # closed connections for the next one, because closing one would drop the locks that the process holds through
    # the others.
    database = os.path.realpath(connection.settings_dict["NAME"]) + "-wal"
    descriptors = Path(f"/proc/{server.process.pid}/fd").iterdir()
    return sum(os.path.realpath(descriptor) == database for descriptor in descriptors)


async def open_all(server: Server, profession: Profession, tokens: list[str], provider: FakeOpenAI) -> tuple[int, int]:
    """Hold a stream open for each token and give the threads and database connections the server has meanwhile."""
    url = f"{server.url}/api/tasks/profession/{profession.pk}/current/stream"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def first_token(token: str) -> aiohttp.ClientResponse:
            response = await session.get(url, headers={"Authorization": f"Bearer {token}"})
            assert response.status == 200
            async for line in response.content:
                if b'"token"' in line:
                    return response
            raise AssertionError("no token")

        responses = await asyncio.gather(*map(first_token, tokens))
        counted = threads_of(server), database_connections_of(server)
        page = await session.get(f"{server.url}/")
        assert page.status == 200
        provider.release()
        for response in responses:
            assert b'"done"' in await response.content.read()
        return counted


def test_300_open_streams_hold_few_threads_and_connections(
    patient_server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(hold_after=1)
    with Client(patient_server.url) as visitor:
        visitor.get("/")  # threads that serve ordinary pages are there before the streams
    learners = User.objects.bulk_create(User(username=f"learner-{number}") for number in range(STREAMS))
    tokens = [create_token(learner) for learner in learners]
    threads, connections = asyncio.run(open_all(patient_server, profession, tokens, provider))
    assert threads < 30
    assert connections <= 8
    assert len(provider.requests) == STREAMS


def test_the_start_looks_whether_threads_can_be_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class KeptElsewhere(dict[object, object]):
        def get(self, key: object, default: object = None) -> None:
            return None

    assert "simulator.E001" not in [message.id for message in run_checks()]
    monkeypatch.setattr(SyncToAsync, "context_to_thread_executor", KeptElsewhere())
    assert "simulator.E001" in [message.id for message in run_checks()]
