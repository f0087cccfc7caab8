"""Database work for code that runs on the event loop and belongs to no request.

Producers and viewers live longer than the request that started them, whose thread and connection are gone. Their few
statements go through this small pool. Each gives its connection back to PostgreSQL's pool; SQLite's, which takes longer
to open than most statements take, stays with its thread. So thousands of open streams hold none.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import connections

P = ParamSpec("P")
T = TypeVar("T")

_pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="offload")
# A lease that is renewed too late is lost, and its text is written and paid for again: just when there is most to do.
_ahead_of_all = ThreadPoolExecutor(max_workers=1, thread_name_prefix="renewals")
# A job may take minutes, and nobody waits for it.
_for_jobs = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs")


async def offload(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that uses the database in the pool and return what it returns."""
    return await _run(_pool, partial(function, *args, **kwargs))


async def offload_to_the_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run it as `offload` does; a cancellation takes effect only when it is done, so that it is never half done."""
    work = asyncio.ensure_future(offload(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


async def offload_ahead(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run it as `offload` does, but not behind what viewers and producers wait for."""
    return await _run(_ahead_of_all, partial(function, *args, **kwargs))


async def offload_job(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run it as `offload` does, where something that takes long keeps nobody else waiting."""
    return await _run(_for_jobs, partial(function, *args, **kwargs))


async def _run(pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    def work() -> T:
        try:
            return function()
        finally:
            for connection in connections.all(initialized_only=True):
                if connection.vendor != "sqlite" or connection.errors_occurred:
                    connection.close()

    return await asyncio.get_running_loop().run_in_executor(pool, work)
