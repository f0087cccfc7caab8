"""The producers of a process: starting them, renewing their leases, stopping them.

Each text is written under a lease, which other processes respect. The supervisor renews the leases of all of them
together; a process that dies renews none, and whoever looks next takes its texts over.
"""

import asyncio
import contextlib
import contextvars
import logging
import time
import uuid
from collections.abc import Coroutine

from django.db import DatabaseError

from generation import ending
from generation.hedging import Allowance
from generation.log import EventLog
from generation.models import RENEW_SECONDS, Generation
from generation.offload import offload, offload_ahead
from generation.producer import Producer
from generation.upstream.chat import Clients

logger = logging.getLogger("generation.supervisor")

# How long a cancelling request waits to see the row final.
CANCEL_SECONDS = 3.0


class Supervisor:
    """Has at most one producer for each text.

    Args:
        owner: names this process in the leases.
    """

    def __init__(self, *, owner: str, event_log: EventLog, clients: Clients) -> None:
        self.owner = owner
        self.event_log = event_log
        self.clients = clients
        self.allowance = Allowance()
        self.is_leaving = False
        self._producers: dict[uuid.UUID, Producer] = {}
        # asyncio itself keeps weak references only.
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewal: asyncio.Task[None] | None = None

    def ensure(self, generation_id: uuid.UUID) -> None:
        """Start writing a text, unless this process writes it already; harmless when another one does.

        One that is held begins when it is freed, or its time is over.
        """
        if (waiting := self._producers.get(generation_id)) is not None:
            waiting.look_again()
            return
        if self.is_leaving:
            return
        if self._renewal is None or self._renewal.done():
            self._renewal = self._start(self._renew_leases())
        producer = self._producers[generation_id] = Producer(
            generation_id,
            owner=self.owner,
            event_log=self.event_log,
            clients=self.clients,
            allowance=self.allowance,
        )
        self._start(self._run(producer))

    def stop(self, generation_id: uuid.UUID) -> None:
        """End a text of this process as cancelled."""
        if producer := self._producers.get(generation_id):
            producer.stop()

    def abandon(self, generation_id: uuid.UUID) -> None:
        """Stop writing a text that another process has taken over; nothing more of it is stored or shown."""
        if producer := self._producers.get(generation_id):
            logger.warning("another process took over generation=%s", generation_id)
            producer.abandon()

    async def cancel(self, generation_id: uuid.UUID) -> None:
        """Stop a text, whichever process writes it: its provider connection is closed and what was written is kept."""
        await offload(ending.cancel, generation_id)
        row = Generation.objects.filter(pk=generation_id)
        deadline = time.monotonic() + CANCEL_SECONDS
        with self.event_log.follow(generation_id) as channel:
            generation = await offload(row.first)
            if generation is None or generation.is_final:
                return
            if producer := self._producers.get(generation_id):
                producer.stop()
                await producer.finished.wait()
                return
            self.event_log.ask_to_cancel(generation_id, generation.lease_owner)
            while not generation.is_final and time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await channel.changed()
                generation = await offload(row.get)

    async def wait_for_all(self) -> None:
        """Wait until everything that is being written here has ended."""
        for producer in list(self._producers.values()):
            await producer.finished.wait()

    async def leave(self, grace_seconds: float) -> None:
        """Start no more texts, let those being written end for a moment, and release the rest to whoever looks next."""
        self.is_leaving = True
        self.event_log.wake_all()
        producers = list(self._producers.values())
        if producers:
            await asyncio.wait([asyncio.ensure_future(one.finished.wait()) for one in producers], timeout=grace_seconds)
        for producer in self._producers.values():
            producer.release()
        await self.wait_for_all()
        await offload(ending.release, owner=self.owner)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        # A context of its own: the request's holds an executor that is shut down when the request ends.
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, producer: Producer) -> None:
        try:
            await producer.run()
        finally:
            del self._producers[producer.generation_id]
            producer.finished.set()
            for freed in producer.freed:
                self.ensure(freed)

    async def _renew_leases(self) -> None:
        """Renew what this process writes, for as long as it writes anything, and hear what became of it meanwhile."""
        while self._producers:
            await asyncio.sleep(RENEW_SECONDS)
            claimed = [key for key, producer in self._producers.items() if producer.is_claimed]
            if not claimed:
                continue
            try:
                kept = await offload_ahead(Generation.objects.renew, claimed, owner=self.owner)
            except DatabaseError:
                # The next round may succeed. If none does, the leases run out, and that is right: somebody else takes
                # over.
                logger.exception("leases could not be renewed")
                continue
            for generation_id in claimed:
                if generation_id not in kept:
                    self.abandon(generation_id)
                elif kept[generation_id]:
                    self.stop(generation_id)
