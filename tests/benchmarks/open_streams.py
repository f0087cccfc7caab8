"""How many streams one process holds, with which threads, connections and memory, and a page's time beside them."""

import asyncio
import math
import statistics
from collections.abc import AsyncIterator
from pathlib import Path

from tests.benchmarks import learners
from tests.benchmarks.crowd import FASTAPI_AIOHTTP, PRODUCT, Crowd, Load, Subject, Window, crowd
from tests.benchmarks.machine import database_connections, thread_count
from tests.benchmarks.readers import Request, read_all
from tests.benchmarks.servers import Spoiled
from tests.benchmarks.table import Row, at_most

STREAMS, TOKENS_PER_SECOND = 2000, 10.0
MOST_THREADS, MOST_CONNECTIONS = 30, 8
MOST_KILOBYTES = 60
PAGES_PER_SECOND = 5.0
# A server that is beyond its limit may never answer.
MOST_PAGE_SECONDS = 15.0


async def measure(directory: Path, *, quick: bool) -> AsyncIterator[Row]:
    load = Load(20, TOKENS_PER_SECOND, 2) if quick else Load(STREAMS, TOKENS_PER_SECOND, 10)
    name = f"{load.streams} open streams at {load.tokens_per_second:g} tokens/s"
    peer = await _peer(directory, load)
    async with crowd(directory, PRODUCT, load) as held:
        threads = thread_count(held.server.pid)
        connections = database_connections(held.server.pid, learners.database_file())
        window, page = await _beside(held, load)
    yield Row(name, _shown(window, page), peer, aim="all held", met=window.held == load.streams)
    yield Row(f"{name}: threads", str(threads), aim=f"< {MOST_THREADS}", met=threads < MOST_THREADS)
    yield Row(
        f"{name}: database connections",
        str(connections),
        aim=f"≤ {MOST_CONNECTIONS}",
        met=connections <= MOST_CONNECTIONS,
    )
    own, theirs = [await _kilobytes(directory, subject, quick=quick) for subject in (PRODUCT, FASTAPI_AIOHTTP)]
    aim, met = at_most(own, MOST_KILOBYTES)
    peer_held = f"{FASTAPI_AIOHTTP.name}: {theirs:.0f} KB"
    yield Row("memory per open stream", f"{own:.0f} KB", peer_held, f"{own / theirs:.1f}", f"{aim} KB", met)


async def _kilobytes(directory: Path, subject: Subject, *, quick: bool) -> float:
    """Give what a stream holds where none has to wait: what waits is no open stream, and holds something too."""
    async with crowd(directory, subject, Load(20, 2, 2) if quick else Load(500, 2, 5)) as held:
        if held.held() < len(held.readers):
            raise Spoiled(f"{held.held()} of {len(held.readers)} streams of {subject.name} were open")
        return held.bytes_per_stream / 1024


async def _peer(directory: Path, load: Load) -> str:
    async with crowd(directory, FASTAPI_AIOHTTP, load) as held:
        window, page = await _beside(held, load)
        return f"{FASTAPI_AIOHTTP.name}: {_shown(window, page)}"


async def _beside(held: Crowd, load: Load) -> tuple[Window, float]:
    """Watch the streams, and give the median seconds that a page takes meanwhile."""
    request = Request(f"{held.server.url}/")
    window, pages = await asyncio.gather(
        held.watched(load.seconds),
        read_all([request] * int(load.seconds * PAGES_PER_SECOND), per_second=PAGES_PER_SECOND),
    )
    waiting = [asyncio.ensure_future(page.end()) for page in pages]
    await asyncio.wait(waiting, timeout=MOST_PAGE_SECONDS)
    return window, statistics.median(page.whole_seconds if page.ended_at else math.inf for page in pages)


def _shown(window: Window, page: float) -> str:
    answered = f"a page in {page * 1000:.0f} ms"
    if math.isinf(page):
        answered = f"no page answered within {MOST_PAGE_SECONDS:g} s"
    return f"{window.held} held, {window.delivered_share:.0%} delivered, {window.cpu_share:.0%} of a core, {answered}"
