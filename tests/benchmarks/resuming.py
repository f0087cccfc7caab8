"""What it costs to send a long text that was written before, against reading it from the database."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from generation.cursor import Cursor, event_id
from generation.models import Generation
from tests.benchmarks import learners, servers
from tests.benchmarks.machine import Stopwatch
from tests.benchmarks.readers import Request, read
from tests.benchmarks.table import Row, at_most

CHARACTERS = 1_000_000
TIMES = 200
AIM = 3.0


async def measure(directory: Path, *, quick: bool) -> AsyncIterator[Row]:
    learner = await asyncio.to_thread(learners.new_learner)
    generation = await asyncio.to_thread(learners.written_text, learner, characters=CHARACTERS)
    token = await asyncio.to_thread(learners.token_of, learner)
    headers = (("Authorization", f"Bearer {token}"),)
    times = 10 if quick else TIMES
    read_cpu, read_wall = await asyncio.to_thread(_reading, generation, times)
    with servers.product(directory, environment={}) as server:
        url = f"{server.url}/api/generations/{generation.pk}/stream"
        begun = event_id(generation.pk, Cursor(generation.epoch, 1))
        for name, request in {
            "from its beginning": Request(url, headers),
            "from its first character": Request(f"{url}?after={begun}", headers),
        }.items():
            cpu, wall = await _resuming(server, request, times)
            yield Row(
                f"1 MB of stored text, sent {name}, against reading it from the database: CPU",
                f"{cpu * 1000:.2f} ms ({wall * 1000:.2f} ms on the wall)",
                f"{read_cpu * 1000:.2f} ms ({read_wall * 1000:.2f} ms on the wall)",
                f"{cpu / read_cpu:.2f}",
                *at_most(cpu / read_cpu, AIM),
            )


def _reading(generation: Generation, times: int) -> tuple[float, float]:
    """Give the CPU and wall seconds of one read."""
    watch, started = time.process_time(), time.perf_counter()
    for _ in range(times):
        Generation.objects.get(pk=generation.pk)
    return (time.process_time() - watch) / times, (time.perf_counter() - started) / times


async def _resuming(server: servers.Running, request: Request, times: int) -> tuple[float, float]:
    for _ in range(5):
        await (await read(request)).end()  # what is imported or opened the first time is no cost of resuming
    watch = Stopwatch(server.pid)
    for _ in range(times):
        reader = await read(request)
        await reader.end()
        if not reader.ok or reader.bytes < CHARACTERS:
            raise servers.Spoiled(f"an answer of {reader.bytes} bytes")
    return watch.cpu_seconds / times, watch.seconds / times
