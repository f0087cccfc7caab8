"""Whether twice the text is twice the bytes, and not more."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from tests.benchmarks import servers
from tests.benchmarks.crowd import PRODUCT
from tests.benchmarks.readers import read
from tests.benchmarks.table import Row, at_most

TOKENS = 300
TOKENS_PER_SECOND = 100.0
# One token more or less falls into a frame.
AIM = 2.05


async def measure(directory: Path, *, quick: bool) -> AsyncIterator[Row]:
    tokens = 50 if quick else TOKENS
    single = await _bytes(directory, tokens)
    double = await _bytes(directory, 2 * tokens)
    yield Row(
        f"bytes of a text of {2 * tokens} tokens against {tokens}",
        f"{double:,}",
        f"{single:,}",
        f"{double / single:.2f}",
        *at_most(double / single, AIM),
    )


async def _bytes(directory: Path, tokens: int) -> int:
    with (
        servers.provider(directory, tokens_per_second=TOKENS_PER_SECOND, tokens=tokens) as provider,
        servers.product(directory, environment=provider.environment) as server,
    ):
        [request] = await asyncio.to_thread(PRODUCT.requests, server, 1)
        reader = await read(request)
        await reader.end()
        if not reader.ok:
            raise servers.Spoiled("the stream was refused")
        return reader.bytes
