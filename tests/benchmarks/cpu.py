"""CPU time per streamed token, and how it grows with the streams."""

from collections.abc import AsyncIterator
from pathlib import Path

from tests.benchmarks.crowd import FASTAPI, FASTAPI_AIOHTTP, PRODUCT, RELAY, Load, Subject, Window, crowd
from tests.benchmarks.table import Row, at_most

AIMS = {FASTAPI: 0.25, FASTAPI_AIOHTTP: None, RELAY: 1.0}
# A process that sends fewer than this of the tokens asked for does not keep up.
KEEPING_UP = 0.98


async def measure(directory: Path, *, quick: bool) -> AsyncIterator[Row]:
    load = Load(5, 20, 2) if quick else Load(200, 50, 10)
    own = await _window(directory, PRODUCT, load)
    for peer, aim in AIMS.items():
        theirs = await _window(directory, peer, load)
        yield _compared(f"CPU per token, {_named(load)}, against {peer.name}", own, theirs, aim)
    if quick:
        return
    double = await _window(directory, PRODUCT, Load(400, 50, 10))
    growth = double.cpu_share / own.cpu_share
    yield Row(
        "CPU of 400 streams against 200",
        f"{double.cpu_share:.0%}",
        f"{own.cpu_share:.0%}",
        f"{growth:.2f}",
        *at_most(growth, 2.1),
    )
    yield await _many(directory, Load(1000, 50, 10))


async def _window(directory: Path, subject: Subject, load: Load) -> Window:
    async with crowd(directory, subject, load) as open_crowd:
        return await open_crowd.watched(load.seconds)


def _named(load: Load) -> str:
    return f"{load.streams} streams at {load.tokens_per_second:g} tokens/s"


def _compared(measure: str, own: Window, theirs: Window, aim: float | None) -> Row:
    ratio = own.cpu_seconds_per_token / theirs.cpu_seconds_per_token
    verdict = ("-", None) if aim is None else at_most(ratio, aim)
    return Row(measure, _shown(own), _shown(theirs), f"{ratio:.2f}", *verdict)


def _shown(window: Window) -> str:
    cost = f"{window.cpu_seconds_per_token * 1e6:.1f} µs, {window.cpu_share:.0%} of a core"
    return f"{cost}, {window.delivered_share:.0%} delivered"


async def _many(directory: Path, load: Load) -> Row:
    window = await _window(directory, PRODUCT, load)
    return Row(
        f"{_named(load)} on one core",
        f"{_shown(window)}; {window.pace}",
        aim=f"{KEEPING_UP:.0%} delivered",
        met=window.delivered_share >= KEEPING_UP,
    )
