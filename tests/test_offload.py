"""Database work of code that belongs to no request."""

import asyncio
import threading

from generation.offload import offload, offload_ahead
from tests.waiting import run_async


def test_leases_are_renewed_while_everything_else_waits() -> None:
    async def play() -> None:
        goes_on = threading.Event()
        waiting = [asyncio.create_task(offload(goes_on.wait)) for _ in range(40)]
        try:
            async with asyncio.timeout(10):
                assert await offload_ahead(str, "renewed") == "renewed"
            assert not any(task.done() for task in waiting)
        finally:
            goes_on.set()
            await asyncio.gather(*waiting)

    run_async(play())
