"""Taking over the texts that other processes left."""

import logging

from generation import ending
from generation.models import Generation
from generation.offload import offload
from generation.supervisor import Supervisor

logger = logging.getLogger("generation.sweep")

SWEEP_SECONDS = 3.0
SWEEP_AT_ONCE = 50


async def sweep(supervisor: Supervisor) -> int:
    """Start writing the texts that nobody writes and somebody should, and return the number of those found."""
    ended = await offload(ending.end_orphans)
    if ended:
        logger.warning("ended %s texts whose producers are gone", ended)
    found = await offload(lambda: list(Generation.objects.abandoned().values_list("pk", flat=True)[:SWEEP_AT_ONCE]))
    for generation_id in found:
        logger.info("taking over generation=%s", generation_id)
        supervisor.ensure(generation_id)
    return len(found)
