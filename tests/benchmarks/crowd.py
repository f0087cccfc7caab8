"""Many open streams on a server under test, the product or one of its peers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.benchmarks import learners, servers
from tests.benchmarks.machine import Stopwatch, memory_bytes
from tests.benchmarks.readers import Reader, Request, first_tokens, read_all
from tests.benchmarks.servers import Provider, Running, Watch

# New streams cost a server more than open ones; at this rate they keep none of them from being opened in time.
OPENED_PER_SECOND = 30.0
SETTLING_SECONDS = 3.0
# A server that is beyond its limit is not waited for any longer; what it does deliver is measured.
BEGINNING_SECONDS = 15.0


class Start(Protocol):
    def __call__(self, directory: Path, *, environment: dict[str, str]) -> AbstractContextManager[Running]: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """A server to be measured, and what is asked of it for so many first texts of so many people."""

    name: str
    start: Start
    requests: Callable[[Running, int], list[Request]]
    environment: tuple[tuple[str, str], ...] = ()


def _first_tasks(server: Running, count: int) -> list[Request]:
    url = f"{server.url}/api/tasks/profession/{learners.a_profession().pk}/current/stream"
    return [Request(url, (("Authorization", f"Bearer {token}"),)) for token in learners.tokens_of_new_learners(count)]


def _plain(server: Running, count: int) -> list[Request]:
    return [Request(f"{server.url}/stream")] * count


PRODUCT = Subject("product", servers.product, _first_tasks)
FASTAPI = Subject("FastAPI", servers.passthrough, _plain)
FASTAPI_AIOHTTP = Subject(
    "FastAPI with openai's aiohttp transport", servers.passthrough, _plain, (("OPENAI_TRANSPORT", "aiohttp"),)
)
RELAY = Subject("aiohttp relay", servers.relay, _plain)


@dataclass(frozen=True, slots=True)
class Load:
    streams: int
    tokens_per_second: float
    seconds: float
    first_token_delay: float = 0.0
    # Of streams opened beside the crowd; 0 for as many as the crowd's own have.
    later_tokens: int = 0

    @property
    def tokens(self) -> int:
        """As many as outlast the opening, the settling and what is measured."""
        return int(
            self.tokens_per_second * (2 * self.streams / OPENED_PER_SECOND + 2 * BEGINNING_SECONDS + 2 * self.seconds)
        )


@dataclass(frozen=True, slots=True)
class Crowd:
    """A server with its open streams."""

    server: Running
    provider: Provider
    readers: list[Reader]
    bytes_per_stream: float
    subject: Subject

    async def new_requests(self, count: int) -> list[Request]:
        return await asyncio.to_thread(self.subject.requests, self.server, count)

    def held(self) -> int:
        """How many streams have begun and did not break off."""
        return sum(reader.is_open and reader.tokens > 0 for reader in self.readers)

    async def watched(self, seconds: float) -> "Window":
        """Let some time pass and say what was used in it. Raises Spoiled if the provider fell behind."""
        watch = Watch(self.provider)
        server, tokens = Stopwatch(self.server.pid), self._tokens()
        await asyncio.sleep(seconds)
        delivered, cpu, share = self._tokens() - tokens, server.cpu_seconds, server.share
        asked = len(self.readers) * self.provider.tokens_per_second * server.seconds
        return Window(cpu / max(delivered, 1), share, delivered / asked, self.held(), watch.check())

    def _tokens(self) -> int:
        return sum(reader.tokens for reader in self.readers)


@dataclass(frozen=True, slots=True)
class Window:
    cpu_seconds_per_token: float
    cpu_share: float
    delivered_share: float
    held: int
    pace: str


@asynccontextmanager
async def crowd(directory: Path, subject: Subject, load: Load) -> AsyncIterator[Crowd]:
    """Open streams that go on long enough, or as many of them as the server takes."""
    answers = servers.provider(
        directory,
        tokens_per_second=load.tokens_per_second,
        first_token_delay=load.first_token_delay,
        tokens=load.later_tokens or load.tokens,
        long_answers=load.streams,
        long_tokens=load.tokens,
    )
    with answers as provider:
        environment = provider.environment | dict(subject.environment)
        with subject.start(directory, environment=environment) as server:
            requests = await asyncio.to_thread(subject.requests, server, load.streams)
            few = max(1, load.streams // 10)
            readers = await _opened(requests[:few])
            memory = memory_bytes(server.pid)
            readers += await _opened(requests[few:])
            grown = memory_bytes(server.pid) - memory
            await asyncio.sleep(SETTLING_SECONDS)
            yield Crowd(server, provider, readers, grown / max(1, load.streams - few), subject)
            for reader in readers:
                reader.leave()


async def _opened(requests: list[Request]) -> list[Reader]:
    readers = await read_all(requests, per_second=OPENED_PER_SECOND)
    await first_tokens(readers, timeout=BEGINNING_SECONDS)
    return readers
