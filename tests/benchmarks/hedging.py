"""What a rival beside a slow candidate is worth, and what it costs where nothing is slow."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import servers
from tests.benchmarks.crowd import PRODUCT
from tests.benchmarks.readers import first_tokens, read_all
from tests.benchmarks.servers import Spoiled
from tests.benchmarks.table import Row

FIRST_TOKEN_DELAY = 0.2
SLOW_EVERY, SLOW_SECONDS = 20, 4.0
HEDGE_SECONDS = 0.6
NEW_STREAMS, NEW_PER_SECOND = 400, 8.0
TOKENS, TOKENS_PER_SECOND = 20, 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds to the first token of each stream, and how many answers the provider was asked for."""

    waits: list[float]
    asked: int

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.waits, n=100, method="inclusive")[percent - 1]


async def measure(directory: Path, *, quick: bool) -> AsyncIterator[Row]:
    streams = 20 if quick else NEW_STREAMS
    off = await _play(directory, streams, hedge_seconds=0, slow_every=SLOW_EVERY)
    on = await _play(directory, streams, hedge_seconds=HEDGE_SECONDS, slow_every=SLOW_EVERY)
    ratio = on.percentile(99) / off.percentile(99)
    yield Row(
        f"p99 of the first token, every {SLOW_EVERY}th start {SLOW_SECONDS:g} s slower: hedging on, against off",
        f"{on.percentile(99) * 1000:.0f} ms",
        f"{off.percentile(99) * 1000:.0f} ms",
        f"{ratio:.2f}",
        "≤ 0.33",
        ratio <= 1 / 3,
    )
    share = on.asked / streams - 1
    yield Row("texts that got a rival in that run", f"{share:.1%}", "-", "-", "about 5 %", share <= 0.06)
    without = await _play(directory, streams, hedge_seconds=0, slow_every=0)
    beside = await _play(directory, streams, hedge_seconds=HEDGE_SECONDS, slow_every=0)
    yield Row(
        "provider requests for each text when nothing is slow: hedging on, against off",
        f"{beside.asked / streams:.2f}",
        f"{without.asked / streams:.2f}",
        f"{beside.asked / without.asked:.2f}",
        "1",
        beside.asked == without.asked,
    )


async def _play(directory: Path, streams: int, *, hedge_seconds: float, slow_every: int) -> Outcome:
    answers = servers.provider(
        directory,
        tokens_per_second=TOKENS_PER_SECOND,
        tokens=TOKENS,
        first_token_delay=FIRST_TOKEN_DELAY,
        slow_every=slow_every,
        slow_seconds=SLOW_SECONDS,
    )
    with answers as provider:
        environment = provider.environment | {"LLM_HEDGE_SECONDS": str(hedge_seconds)}
        with servers.product(directory, environment=environment) as server:
            requests = await asyncio.to_thread(PRODUCT.requests, server, streams)
            readers = await read_all(requests, per_second=NEW_PER_SECOND)
            await first_tokens(readers, timeout=30)
            if any(not reader.first_token_at for reader in readers):
                raise Spoiled("some streams showed nothing")
            outcome = Outcome([reader.first_token_seconds for reader in readers], int(provider.facts()["answers"]))
            for reader in readers:
                reader.leave()
            return outcome
