"""How long a first token takes beside many open streams, above what the provider itself takes."""

import statistics
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.crowd import FASTAPI, FASTAPI_AIOHTTP, PRODUCT, Load, Subject, crowd
from tests.benchmarks.readers import first_tokens, read_all
from tests.benchmarks.table import Row

FIRST_TOKEN_DELAY = 0.2
OPEN_STREAMS, TOKENS_PER_SECOND = 200, 20.0
NEW_STREAMS, NEW_PER_SECOND = 400, 20.0
# What the new streams show is short, so that their number stays about the same.
NEW_TOKENS = 20
# What shows nothing by then counts as if it had come just then.
LONGEST_SECONDS = 30.0


async def measure(directory: Path, *, quick: bool) -> AsyncIterator[Row]:
    new = 10 if quick else NEW_STREAMS
    seconds = new / NEW_PER_SECOND + 5
    load = Load(5 if quick else OPEN_STREAMS, TOKENS_PER_SECOND, seconds, FIRST_TOKEN_DELAY, NEW_TOKENS)
    own = await _waits(directory, PRODUCT, load, new)
    what = f"first token above the provider's, {NEW_PER_SECOND:g} new streams/s beside {load.streams} open ones"
    for peer in (FASTAPI, FASTAPI_AIOHTTP):
        theirs = await _waits(directory, peer, load, new)
        for name, percent in (("median", 50), ("p99", 99)):
            mine, other = _percentile(own.seconds, percent), _percentile(theirs.seconds, percent)
            yield Row(
                f"{what}: {name}, against {peer.name}",
                f"{mine * 1000:.1f} ms{own.remark}",
                f"{other * 1000:.1f} ms{theirs.remark}",
                f"{mine / other:.2f}",
                "≤ 1",
                mine <= other and not own.silent,
            )


@dataclass(frozen=True, slots=True)
class Waits:
    """How long new streams took to show something, and how many showed nothing within LONGEST_SECONDS."""

    seconds: list[float]
    silent: int

    @property
    def remark(self) -> str:
        return f", {self.silent} showed nothing" if self.silent else ""


async def _waits(directory: Path, subject: Subject, load: Load, new: int) -> Waits:
    async with crowd(directory, subject, load) as open_crowd:
        requests = await open_crowd.new_requests(new)
        readers = await read_all(requests, per_second=NEW_PER_SECOND)
        await first_tokens(readers, timeout=LONGEST_SECONDS)
        for reader in readers:
            reader.leave()
        waits = [reader.first_token_seconds if reader.first_token_at else LONGEST_SECONDS for reader in readers]
        silent = sum(not reader.first_token_at for reader in readers)
        return Waits([wait - load.first_token_delay for wait in waits], silent)


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
