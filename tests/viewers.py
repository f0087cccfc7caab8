"""Producers and viewers without a server."""

from django.utils import timezone

from accounts.models import User
from generation.cursor import START, Cursor
from generation.models import LEASE, Generation
from generation.process import Process
from generation.sweep import sweep
from generation.viewer import Event, view
from tests.waiting import run_async


def claimed_elsewhere(user: User, count: int = 1) -> list[Generation]:
    """Make texts that a producer in another process has claimed."""
    return Generation.objects.bulk_create(
        Generation(
            user=user,
            source=Generation.Source.AUTHORED,
            status=Generation.Status.RUNNING,
            epoch=1,
            lease_owner="elsewhere",
            lease_expires_at=timezone.now() + LEASE,
        )
        for _ in range(count)
    )


async def read_on(process: Process, events: list[Event], generation: Generation, *, after: Cursor = START) -> None:
    """Add to `events` what a viewer yields, to its end."""
    async for event in view(process, generation.pk, after=after):
        events.append(event)  # noqa: PERF401  # the caller looks at the list meanwhile


def write(generation: Generation) -> Generation:
    """Write a text to its end, and return its row."""

    async def work() -> None:
        process = Process()
        process.open()
        try:
            process.supervisor.ensure(generation.pk)
            await process.supervisor.wait_for_all()
        finally:
            await process.close()

    run_async(work())
    generation.refresh_from_db()
    return generation


def sweep_and_finish() -> None:
    """Take over what nobody writes, as a serving process does, until nothing is left."""

    async def work() -> None:
        process = Process()
        process.open()
        try:
            while await sweep(process.supervisor):
                await process.supervisor.wait_for_all()
        finally:
            await process.close()

    run_async(work())
