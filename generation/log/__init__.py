"""The event log: the fast copy of the texts being written, which viewers follow.

`EventLog` is what producers and viewers know of it; memory.py serves one process, redis.py many. A log may lose
everything at any time: viewers then finish from the row.
"""

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from django.conf import settings

from generation.log.channel import Channel


class EventLog(Protocol):
    """Nothing here waits for a reader or for another machine, so that the provider is never held up."""

    def start(self, *, on_cancel: Callable[[uuid.UUID], None], on_fenced: Callable[[uuid.UUID], None]) -> None:
        """Begin to work in the running event loop.

        `on_cancel` is called for a text of this process that another process wants stopped, `on_fenced` for one that
        another process has taken over.
        """

    async def stop(self) -> None:
        """Deliver what is still to be delivered, as far as that takes no long time, and stop."""

    def begin(self, generation_id: uuid.UUID, epoch: int) -> None:
        """Start a text; viewers of an earlier epoch see it withdrawn."""

    def append(self, generation_id: uuid.UUID, epoch: int, text: str) -> None:
        """Add text. Text of an epoch that is over is dropped."""

    def end(self, generation_id: uuid.UUID, epoch: int) -> None:
        """Announce that the row holds the end. Called after the row was saved, never before."""

    def leave(self, generation_id: uuid.UUID, epoch: int) -> None:
        """Stop writing without an end: another process goes on."""

    def fail(self, generation_id: uuid.UUID) -> None:
        """Tell the viewers of this process that a text cannot be stored. Those of others find out by themselves."""

    def follow(self, generation_id: uuid.UUID) -> AbstractContextManager[Channel]:
        """Yield the channel of a text, alive as long as somebody follows or writes it."""

    def ask_to_cancel(self, generation_id: uuid.UUID, owner: str) -> None:
        """Tell the process that writes a text that it is to stop."""

    def wake_all(self) -> None:
        """Wake every viewer of this process."""


def make_log(owner: str) -> EventLog:
    """Return the log that the settings ask for; `owner` names this process among its like."""
    if settings.REDIS_URL:
        from generation.log.redis import RedisLog

        return RedisLog(settings.REDIS_URL, owner=owner)
    from generation.log.memory import MemoryLog

    return MemoryLog()


__all__ = ["Channel", "EventLog", "make_log"]
