"""One server of two workers, `manage.py serve --workers 2`."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Server, ServerStarter
from tests.crowd import Crowd
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.kernel import connections
from tests.sites import Site
from tests.stores import Postgres, Redis
from tests.waiting import run_async, wait_until

TOKENS = ("One ", "two.")
TEXT = "One two."


@pytest.fixture
def site(postgres: Postgres, redis_server: Redis, start_server: ServerStarter, provider: FakeOpenAI) -> Iterator[Site]:
    site = Site(postgres, redis_server, start_server, provider, servers=1, workers=2)
    # The first answers while the second still starts, and would then get everything.
    wait_until(lambda: site.first.log.count("Application startup complete") == 2, what="both workers")
    yield site
    site.stop()


def workers_of(server: Server) -> set[int]:
    """Give the processes that hold the server's listening socket, without the one that started them."""
    (listener,) = [end for end in connections() if end.is_listener and end.local_port == server.port]
    parent = server.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    return {int(child) for child in children if listener.is_held_by(int(child))}


def writers(site: Site) -> Counter[int]:
    """How many texts each process is writing."""
    rows = site.postgres.rows("SELECT lease_owner FROM generation_generation WHERE status = 'running'")
    return Counter(int(str(owner).split(":")[1]) for (owner,) in rows)


async def open_at_each(
    workers: set[int], site: Site, crowd: Crowd, *, at_once: int = 20
) -> tuple[list[str], list[aiohttp.ClientResponse]]:
    """Open streams until each worker writes a text: which of them takes a connection is the kernel's choice."""
    tokens: list[str] = []
    streams: list[aiohttp.ClientResponse] = []
    while set(writers(site)) != workers:
        assert len(tokens) < 20 * at_once, writers(site)
        more = await asyncio.to_thread(site.new_tokens, at_once)
        streams += await crowd.first_tokens([site.first.url + site.current], more)
        tokens += more
    return tokens, streams


@pytest.mark.quiet
def test_two_workers_tell_their_learners_to_come_back_and_leave_within_five_seconds(
    site: Site, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=1)
    workers = workers_of(site.first)
    assert len(workers) == 2

    async def leave() -> tuple[list[str], list[bytes]]:
        async with Crowd() as crowd:
            tokens, streams = await open_at_each(workers, site, crowd, at_once=100)
            assert workers_of(site.first) == workers
            site.first.process.terminate()
            return tokens, await crowd.ends(streams)

    tokens, ends = run_async(leave())
    assert all(b'"type":"reconnect"' in end for end in ends)
    # systemd kills what is still there after the time a unit names, 5 s here.
    assert site.first.process.wait(5) in {0, -signal.SIGTERM}
    assert site.postgres.rows("SELECT count(*) FROM generation_generation WHERE status = 'running'") == [(0,)]
    assert "Traceback" not in site.first.log

    provider.default = Behaviour(tokens=TOKENS)
    again = site.start()

    async def come_back() -> list[bytes]:
        async with Crowd() as crowd:
            responses = await crowd.first_tokens([again.url + site.current], tokens)
            return await crowd.ends(responses)

    assert all(f'"full_text":"{TEXT}"'.encode() in end for end in run_async(come_back()))


def test_a_killed_worker_is_replaced_and_its_texts_are_taken_over(site: Site, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=1)
    before = workers_of(site.first)
    killed = max(before)

    async def play() -> tuple[int, list[bytes]]:
        async with Crowd() as crowd:
            tokens, _ = await open_at_each(before, site, crowd)
            cut = writers(site)[killed]
            os.kill(killed, signal.SIGKILL)
            provider.default = Behaviour(tokens=TOKENS)
            back = await crowd.first_tokens([site.first.url + site.current], tokens)
            provider.release()
            return cut, await crowd.ends(back)

    cut, ends = run_async(play())
    assert all(f'"full_text":"{TEXT}"'.encode() in end for end in ends)
    assert sum(b'"type":"reset"' in end for end in ends) == cut
    assert len(provider.requests) == len(ends) + cut
    wait_until(lambda: len(workers_of(site.first) - {killed}) == 2, what="the replacement")
