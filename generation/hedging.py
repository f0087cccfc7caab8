"""Hedging: a candidate that is slow to begin gets a rival, and whoever speaks first goes on alone."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from generation.attempts import OngoingAttempt
from generation.models import Attempt
from generation.upstream import CompletionEnd
from generation.upstream.faults import UpstreamFault

# Of all texts, how many may get a rival: an outage makes every text slow, and must not double what is asked.
HEDGED_SHARE = 0.05
MOST_HEDGES_AT_ONCE = 5.0


class Allowance:
    """How many rivals may be started: each text adds its share, up to a few at once."""

    def __init__(self) -> None:
        self.hedges = 1.0

    def earn(self) -> None:
        self.hedges = min(self.hedges + HEDGED_SHARE, MOST_HEDGES_AT_ONCE)

    def spend(self) -> bool:
        if self.hedges < 1:
            return False
        self.hedges -= 1
        return True


class Spoke(NamedTuple):
    """The attempt that said something, and what."""

    attempt: OngoingAttempt
    piece: str | CompletionEnd


class Hedge:
    """A race between an attempt and, if it is slow to begin, a rival.

    Args:
        begin_rival: begins an attempt at the next candidate; returns None where there is none.
        after_seconds: how long the first may be silent.
        allowance: whether there may be a rival at all.
    """

    def __init__(
        self,
        attempt: OngoingAttempt,
        *,
        begin_rival: Callable[[], Awaitable[OngoingAttempt | None]],
        after_seconds: float,
        allowance: Allowance,
    ) -> None:
        self._attempt = attempt
        self._begin_rival = begin_rival
        self._after_seconds = after_seconds
        self._allowance = allowance
        self._racing: dict[asyncio.Task[str | CompletionEnd], OngoingAttempt] = {}

    async def first_to_speak(self) -> Spoke:
        """Return who spoke first; the other is closed. Raises UpstreamFault when both failed."""
        try:
            self._enter(self._attempt)
            done, _ = await asyncio.wait(self._racing, timeout=self._after_seconds)
            if not done and self._allowance.spend() and (rival := await self._begin_rival()):
                self._enter(rival)
            winner = await self._winner()
        finally:
            for task in self._racing:
                task.cancel()
            await asyncio.gather(*self._racing, return_exceptions=True)
        for one in self._racing.values():
            if one is not winner.attempt:
                await one.end(Attempt.Outcome.OVERTAKEN)
        return winner

    def _enter(self, attempt: OngoingAttempt) -> None:
        self._racing[asyncio.create_task(attempt.first_piece())] = attempt

    async def _winner(self) -> Spoke:
        running = set(self._racing)
        while True:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            spoke = [task for task in done if task.exception() is None]
            if spoke:
                return Spoke(self._racing[spoke[0]], spoke[0].result())
            for task in done:
                fault = task.exception()
                if fault is not None and not (running and isinstance(fault, UpstreamFault)):
                    raise fault
