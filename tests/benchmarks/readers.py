"""Readers of streams that cost next to nothing: they count what arrives and look at nothing else."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.benchmarks.provider import MARK


@dataclass(frozen=True, slots=True)
class Request:
    url: str
    headers: tuple[tuple[str, str], ...] = ()

    def encoded(self) -> bytes:
        address = urlsplit(self.url)
        target = address.path + (f"?{address.query}" if address.query else "")
        lines = [
            f"GET {target} HTTP/1.1",
            f"Host: {address.netloc}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join([*lines, "", ""]).encode()


class Reader(asyncio.Protocol):
    """One request and what came of it. Times are seconds of the monotonic clock."""

    __slots__ = (
        "_answered",
        "_ended",
        "_request",
        "_transport",
        "asked_at",
        "bytes",
        "ended_at",
        "first_token_at",
        "ok",
        "tokens",
    )

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._answered: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self.bytes = self.tokens = 0
        self.asked_at = self.first_token_at = self.ended_at = 0.0
        self.ok = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what TCP gives
        self._transport = transport
        self.asked_at = time.monotonic()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.bytes:
            self.ok = data.startswith(b"HTTP/1.1 200 ")
        self.bytes += len(data)
        self.tokens += data.count(MARK)
        if self.tokens and not self.first_token_at:
            self.first_token_at = time.monotonic()
            self._settle(self._answered)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended_at = time.monotonic()
        self.ok = self.ok and self.bytes > 0
        self._settle(self._answered)
        self._settle(self._ended)

    @staticmethod
    def _settle(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)

    @property
    def is_open(self) -> bool:
        return self.ok and not self._ended.done()

    @property
    def first_token_seconds(self) -> float:
        return self.first_token_at - self.asked_at

    @property
    def whole_seconds(self) -> float:
        return self.ended_at - self.asked_at

    async def first_token(self) -> None:
        await self._answered

    async def end(self) -> None:
        await self._ended

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def read(request: Request) -> Reader:
    host, _, port = urlsplit(request.url).netloc.partition(":")
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(lambda: Reader(request.encoded()), host, int(port))
    return reader


async def read_all(requests: Sequence[Request], *, per_second: float) -> list[Reader]:
    """Open streams at this rate, evenly spaced, and give them when the last is asked for."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    opening = []
    for request in requests:
        await asyncio.sleep(due - loop.time())
        due += 1 / per_second
        opening.append(loop.create_task(read(request)))
    return list(await asyncio.gather(*opening))


async def first_tokens(readers: Sequence[Reader], *, timeout: float) -> None:  # noqa: ASYNC109  # for all of them together
    """Wait until each stream has shown something; those that have not by then are as they are."""
    waiting = [asyncio.ensure_future(reader.first_token()) for reader in readers]
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=timeout)
        for each in late:
            each.cancel()
