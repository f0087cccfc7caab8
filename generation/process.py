"""What a serving process does for texts besides answering requests: it takes over what others left, and leaves well
itself."""

import asyncio
import contextvars
import logging
import random

from django.conf import settings
from django.db import DatabaseError

from generation import producer
from generation.models import Generation
from generation.offload import offload
from generation.upstream import candidates, chat

logger = logging.getLogger("generation.process")

SWEEP_SECONDS = 3.0
SWEEP_AT_ONCE = 50
# What a producer is given to end by itself when its process is asked to leave.
GRACE_SECONDS = 2.0

_tasks: list[asyncio.Task[None]] = []


async def start() -> None:
    """Begin to work in the running event loop."""
    producer.event_log.start(on_cancel=producer.stop, on_fenced=producer.abandon)
    if not settings.REDIS_URL:
        # This is the only process there is, so whatever is being written was written by one that is gone.
        await offload(Generation.objects.expire_leases)
    await offload(candidates.register)
    _tasks.append(asyncio.get_running_loop().create_task(_sweep_for_ever(), context=contextvars.Context()))


async def leave() -> None:
    """Tell viewers to come back elsewhere, end or give back what is being written, and stop."""
    for task in _tasks:
        task.cancel()
    await producer.leave(GRACE_SECONDS)
    await producer.event_log.stop()
    await chat.close()


async def sweep() -> int:
    """Take over the texts that nobody writes and somebody should; the number of those found."""
    ended = await offload(Generation.objects.end_orphans)
    if ended:
        logger.warning("ended %s texts whose producers are gone", ended)
    found = await offload(lambda: list(Generation.objects.abandoned().values_list("pk", flat=True)[:SWEEP_AT_ONCE]))
    for generation_id in found:
        logger.info("taking over generation=%s", generation_id)
        producer.ensure(generation_id)
    return len(found)


async def _sweep_for_ever() -> None:
    while True:
        # Spread, so that many processes do not look at the same moment.
        await asyncio.sleep(SWEEP_SECONDS * random.uniform(0.7, 1.3))  # noqa: S311  # no secret
        try:
            await sweep()
        except DatabaseError:
            logger.exception("the sweep failed")
