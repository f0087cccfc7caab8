"""Viewers of texts that somebody else writes, for tests without a server."""

from django.utils import timezone

from accounts.models import User
from generation.cursor import START, Cursor
from generation.models import LEASE, Generation
from generation.viewer import Event, view


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


async def read_on(events: list[Event], generation: Generation, *, after: Cursor = START) -> None:
    """Add to `events` what a viewer gives, to its end."""
    async for event in view(generation.pk, after=after):
        events.append(event)  # noqa: PERF401  # the caller looks at the list meanwhile
