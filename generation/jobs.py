"""Periodic jobs of a process.

A job runs in one process at a time: its row in the database says when it is due and who runs it, under a lease as for
texts. It may be broken off and begun again, and has to bear that.
"""

import asyncio
import contextvars
import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from django.db import DatabaseError

from generation.models import RENEW_SECONDS, Job
from generation.offload import offload, offload_job

logger = logging.getLogger("generation.jobs")

# How often a process looks whether a job is due that runs seldom.
MOST_SECONDS_BETWEEN_LOOKS = 60.0
# After how long a job that failed is tried again.
RETRY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class _Periodic:
    name: str
    seconds: float
    run: Callable[[], Awaitable[object] | object]
    in_each_process: bool


class Jobs:
    """The jobs of one process.

    Args:
        owner: names this process in the leases.
    """

    def __init__(self, *, owner: str) -> None:
        self._owner = owner
        self._periodic: list[_Periodic] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_started = False

    def every(
        self, seconds: float, job: Callable[[], Awaitable[object] | object], *, in_each_process: bool = False
    ) -> None:
        """Run a job every so many seconds: a coroutine function on the event loop, any other function in a thread.

        With `in_each_process` every process runs it, whatever the others do.
        """
        periodic = _Periodic(f"{job.__module__}.{job.__qualname__}", seconds, job, in_each_process)
        self._periodic.append(periodic)
        if self._has_started:
            self._start(periodic)

    def start(self) -> None:
        self._has_started = True
        for periodic in self._periodic:
            self._start(periodic)

    def _start(self, periodic: _Periodic) -> None:
        task = asyncio.get_running_loop().create_task(self._repeat(periodic), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Begin no job any more, and break off those on the event loop; a thread ends by itself."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, periodic: _Periodic) -> None:
        while True:
            # Spread, so that many processes do not look at the same moment.
            pause = min(periodic.seconds, MOST_SECONDS_BETWEEN_LOOKS)
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311  # no secret
            try:
                if periodic.in_each_process:
                    await _run(periodic)
                elif await offload(Job.objects.claim, periodic.name, owner=self._owner):
                    await self._run_under_lease(periodic)
            except DatabaseError:
                logger.exception("the database failed, job=%s", periodic.name)

    async def _run_under_lease(self, periodic: _Periodic) -> None:
        renewal = asyncio.create_task(self._renew(periodic.name))
        started = time.monotonic()
        try:
            has_failed = not await _run(periodic)
        finally:
            renewal.cancel()
        await offload(
            Job.objects.finish,
            periodic.name,
            owner=self._owner,
            took_seconds=time.monotonic() - started,
            again_after_seconds=min(periodic.seconds, RETRY_SECONDS) if has_failed else periodic.seconds,
            has_failed=has_failed,
        )

    async def _renew(self, name: str) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await offload(Job.objects.renew, name, owner=self._owner)
            except DatabaseError:
                logger.exception("a lease could not be renewed, job=%s", name)


async def _run(periodic: _Periodic) -> bool:
    """Return whether a job ran to its end."""
    try:
        if inspect.iscoroutinefunction(periodic.run):
            await periodic.run()
        else:
            await offload_job(periodic.run)
    except Exception:  # a job that fails keeps neither itself nor the others from running again
        logger.exception("failed, job=%s", periodic.name)
        return False
    return True
