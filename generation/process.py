"""What a serving process has running: one object, made when the server starts and handed on with every request.

It has the event log, the clients of the providers, the producers, the watch over open streams, the places for streams
and the periodic jobs. Tests make their own.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable

from django.conf import settings
from django.http import HttpRequest

from generation.jobs import Jobs
from generation.log import EventLog, make_log
from generation.models import Generation
from generation.offload import offload
from generation.places import Places
from generation.supervisor import Supervisor
from generation.sweep import SWEEP_SECONDS, sweep
from generation.upstream import candidates
from generation.upstream.chat import Clients
from generation.watch import Watch

# How long producers may go on by themselves when their process is asked to leave.
GRACE_SECONDS = 2.0

# Until its first byte a stream holds a thread and mostly a database connection, as any request does. After a restart
# all readers come back at the same moment, so only so many of them have a turn at a time.
FIRST_BYTES_AT_ONCE = 12


class Process:
    """What this process has running. To be made in the event loop it works in.

    Args:
        event_log: instead of the one that the settings ask for.
    """

    def __init__(self, *, event_log: EventLog | None = None) -> None:
        # The random part tells a process from an earlier one with the same number.
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.event_log = event_log or make_log(self.owner)
        self.clients = Clients()
        self.supervisor = Supervisor(owner=self.owner, event_log=self.event_log, clients=self.clients)
        self.watch = Watch()
        self.places = Places()
        self.turns = asyncio.Semaphore(FIRST_BYTES_AT_ONCE)
        self.jobs = Jobs(owner=self.owner)

    @property
    def is_leaving(self) -> bool:
        return self.supervisor.is_leaving

    def open(self) -> None:
        """Begin to hear from other processes."""
        self.event_log.start(on_cancel=self.supervisor.stop, on_fenced=self.supervisor.abandon)

    async def start(self) -> None:
        """Begin to serve: take over what earlier processes left, now and from time to time."""
        self.open()
        if not settings.REDIS_URL:
            # This is the only process there is, so whatever is being written was written by one that is gone.
            await offload(Generation.objects.expire_leases)
        await offload(candidates.register)
        self.jobs.every(SWEEP_SECONDS, self._sweep, in_each_process=True)
        self.jobs.start()

    def every(self, seconds: float, job: Callable[[], Awaitable[object] | object]) -> None:
        """Run a job every so many seconds, one at a time across all processes: see generation/jobs.py."""
        self.jobs.every(seconds, job)

    async def leave(self) -> None:
        """Tell viewers to come back elsewhere, end or release what is being written, and stop."""
        await self.jobs.stop()
        await self.supervisor.leave(GRACE_SECONDS)
        await self.close()

    async def close(self) -> None:
        """Close the connections to other processes and to providers."""
        await self.event_log.stop()
        await self.clients.close()

    async def _sweep(self) -> None:
        await sweep(self.supervisor)


def process_of(request: HttpRequest) -> Process:
    """Return the process that answers a request: the server's lifespan made it (simulator/asgi.py)."""
    process: Process = request.scope["state"]["process"]  # type: ignore[attr-defined]  # an ASGIRequest has a scope
    return process
