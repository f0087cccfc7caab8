"""Database work for code that runs on the event loop and belongs to no request.

Producers and viewers live longer than the request that started them, whose thread and connection are gone. Their few
statements go through this small pool. Each gives its connection back to PostgreSQL's pool; SQLite's, which takes longer
to open than most statements take, stays with its thread. So thousands of open streams hold none.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import connections

P = ParamSpec("P")
T = TypeVar("T")

_pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="offload")


async def offload(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that uses the database in the pool and give what it gives."""

    def work() -> T:
        try:
            return function(*args, **kwargs)
        finally:
            for connection in connections.all(initialized_only=True):
                if connection.vendor != "sqlite" or connection.errors_occurred:
                    connection.close()

    return await asyncio.get_running_loop().run_in_executor(_pool, work)
