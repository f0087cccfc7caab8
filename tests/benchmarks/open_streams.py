"""How many streams one process holds, with which threads, connections and memory, and a page's time beside them."""

import asyncio
import math
import statistics
from collections.abc import AsyncIterator
from pathlib import Path

from tests.benchmarks import learners
from tests.benchmarks.crowd import FASTAPI_AIOHTTP, PRODUCT, Crowd, Load, Window, crowd
from tests.benchmarks.machine import database_connections, thread_count
from tests.benchmarks.readers import Request, read_all
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
        kilobytes = held.bytes_per_stream / 1024
    yield Row(name, _shown(window, page), peer, aim="all held", met=window.held == load.streams)
    yield Row(f"{name}: threads", str(threads), aim=f"< {MOST_THREADS}", met=threads < MOST_THREADS)
    yield Row(
        f"{name}: database connections",
        str(connections),
        aim=f"≤ {MOST_CONNECTIONS}",
        met=connections <= MOST_CONNECTIONS,
    )
    aim, met = at_most(kilobytes, MOST_KILOBYTES)
    yield Row("memory per open stream", f"{kilobytes:.1f} KB", aim=f"{aim} KB", met=met)


async def _peer(directory: Path, load: Load) -> str:
    async with crowd(directory, FASTAPI_AIOHTTP, load) as held:
        window, page = await _beside(held, load)
        return f"{FASTAPI_AIOHTTP.name}: {_shown(window, page)}, {held.bytes_per_stream / 1024:.1f} KB per stream"


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
    return (
        f"{window.held} held, {window.delivered_share:.0%} delivered, {window.cpu_share:.0%} of a core, "
        f"a page in {page * 1000:.0f} ms"
    )
