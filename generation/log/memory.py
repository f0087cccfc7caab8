"""The event log of a site that is one process."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from generation.log.channel import Channel


class MemoryLog:
    def __init__(self) -> None:
        self._channels: dict[uuid.UUID, Channel] = {}
        self._users: dict[uuid.UUID, int] = {}

    def start(self, *, on_cancel: Callable[[uuid.UUID], None], on_fenced: Callable[[uuid.UUID], None]) -> None:
        """Do nothing: there is no other process to hear from."""

    async def stop(self) -> None:
        """Do nothing: there is no other process to tell."""

    def begin(self, generation_id: uuid.UUID, epoch: int) -> None:
        self.hold(generation_id).begin(epoch)

    def append(self, generation_id: uuid.UUID, epoch: int, text: str) -> None:
        channel = self._channels[generation_id]
        if epoch != channel.epoch:
            return
        channel.append(text)
        channel.wake()

    def end(self, generation_id: uuid.UUID, epoch: int) -> None:
        channel = self._channels[generation_id]
        if epoch == channel.epoch:
            channel.end()
        self.release(generation_id)

    def leave(self, generation_id: uuid.UUID, epoch: int) -> None:
        self.release(generation_id)

    def fail(self, generation_id: uuid.UUID) -> None:
        if channel := self._channels.get(generation_id):
            channel.fail()

    @contextmanager
    def follow(self, generation_id: uuid.UUID) -> Iterator[Channel]:
        channel = self.hold(generation_id)
        try:
            yield channel
        finally:
            self.release(generation_id)

    def ask_to_cancel(self, generation_id: uuid.UUID, owner: str) -> None:
        """Do nothing: what this process does not write, nobody writes."""

    def wake_all(self) -> None:
        for channel in self._channels.values():
            channel.wake()

    def hold(self, generation_id: uuid.UUID) -> Channel:
        """Return a channel that stays until it is released as often as it was held."""
        self._users[generation_id] = self._users.get(generation_id, 0) + 1
        return self._channels.setdefault(generation_id, Channel())

    def release(self, generation_id: uuid.UUID) -> None:
        self._users[generation_id] -= 1
        if not self._users[generation_id]:
            del self._users[generation_id], self._channels[generation_id]

    def is_held(self, generation_id: uuid.UUID) -> bool:
        return generation_id in self._channels
