"""The event log of a site that is one process."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from generation.log import Channel

# Tokens arrive every few milliseconds and the page draws once a frame; waking readers less often costs nobody anything.
MERGE_SECONDS = 0.05


class MemoryLog:
    def __init__(self) -> None:
        self._channels: dict[uuid.UUID, Channel] = {}
        self._users: dict[uuid.UUID, int] = {}
        self._due: set[uuid.UUID] = set()

    def begin(self, generation_id: uuid.UUID, epoch: int) -> None:
        channel = self._hold(generation_id)
        channel.begin(epoch)
        channel.wake()

    def append(self, generation_id: uuid.UUID, epoch: int, text: str) -> None:
        channel = self._channels[generation_id]
        if epoch != channel.epoch:
            return
        channel.append(text)
        if channel.length == len(text):
            channel.wake()  # the first text is shown at once
        elif generation_id not in self._due:
            self._due.add(generation_id)
            asyncio.get_running_loop().call_later(MERGE_SECONDS, self._wake, generation_id)

    def _wake(self, generation_id: uuid.UUID) -> None:
        self._due.discard(generation_id)
        if channel := self._channels.get(generation_id):
            channel.wake()

    def end(self, generation_id: uuid.UUID, epoch: int) -> None:
        channel = self._channels[generation_id]
        if epoch == channel.epoch:
            channel.end()
        self._release(generation_id)

    @contextmanager
    def follow(self, generation_id: uuid.UUID) -> Iterator[Channel]:
        channel = self._hold(generation_id)
        try:
            yield channel
        finally:
            self._release(generation_id)

    def _hold(self, generation_id: uuid.UUID) -> Channel:
        self._users[generation_id] = self._users.get(generation_id, 0) + 1
        return self._channels.setdefault(generation_id, Channel())

    def _release(self, generation_id: uuid.UUID) -> None:
        self._users[generation_id] -= 1
        if not self._users[generation_id]:
            del self._users[generation_id], self._channels[generation_id]
