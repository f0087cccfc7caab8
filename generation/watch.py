"""The rows of all open streams are looked at, many at a time.

A viewer learns from the event log how its text grows. But the log may have lost the end, the producer may have died,
the reader may have lost the right to read: only the row knows. It is asked for every viewer every LOOK_SECONDS, and
for all that are due in the same second at once: a query of its own cost each 2.6 ms, half of what two hundred streams
cost while nothing is written.
"""

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass

from accounts.access import Access, in_force
from generation.models import Generation
from generation.offload import offload

logger = logging.getLogger("generation.watch")

LOOK_SECONDS = 15.0
ROUNDS = 15


@dataclass(eq=False, slots=True)
class Watched:
    """What a viewer is told: that it is time to say something, whether it should look at its row, and whether its
    access has ended."""

    generation_id: uuid.UUID
    wake: Callable[[], None]
    access: Access | None = None
    is_due: bool = False
    is_in_doubt: bool = False
    is_refused: bool = False


class Watch:
    """The viewers of a process, and one task that looks at their rows while there are any."""

    def __init__(self) -> None:
        self._rounds: list[set[Watched]] = [set() for _ in range(ROUNDS)]
        self._next_round = itertools.cycle(self._rounds)
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def over(
        self, generation_id: uuid.UUID, wake: Callable[[], None], *, access: Access | None = None
    ) -> Iterator[Watched]:
        """Wake a viewer every LOOK_SECONDS for as long as the context lasts."""
        watched = Watched(generation_id, wake, access)
        members = next(self._next_round)
        members.add(watched)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch(), context=Context())
        try:
            yield watched
        finally:
            members.discard(watched)

    async def _watch(self) -> None:
        """Wake one round after the other for as long as anybody is there; a slow database keeps nobody waiting."""
        looking: asyncio.Task[None] | None = None
        while any(self._rounds):
            for members in self._rounds:
                await asyncio.sleep(LOOK_SECONDS / ROUNDS)
                for watched in members:
                    watched.is_due = True
                    watched.wake()
                if members and (looking is None or looking.done()):
                    looking = asyncio.get_running_loop().create_task(_look(tuple(members)))


async def _look(members: Collection[Watched]) -> None:
    try:
        written = await offload(Generation.objects.being_written, {watched.generation_id for watched in members})
        in_force_now = await offload(in_force, {watched.access for watched in members if watched.access})
    except Exception:  # texts grow without it, and the next look may succeed
        logger.exception("open streams could not be looked at")
        return
    for watched in members:
        watched.is_refused = watched.access is not None and watched.access not in in_force_now
        watched.is_in_doubt |= watched.generation_id not in written
        if watched.is_refused or watched.is_in_doubt:
            watched.wake()
