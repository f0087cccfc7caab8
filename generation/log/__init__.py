"""The event log: the fast copy of the texts being written, which viewers follow.

`EventLog` is what producers and viewers know of it. An implementation delivers what a producer appends to the
channels of this process; it may lose everything at any time, and viewers then finish from the row.
"""

import asyncio
import uuid
from contextlib import AbstractContextManager
from typing import Protocol


class Channel:
    """What is known in this process of one text being written: its epoch and the text so far.

    Viewers keep their own position and take everything behind it at once, so a slow reader costs no memory of its
    own and a burst of tokens becomes one event.
    """

    __slots__ = ("_pieces", "_starts", "_waiting", "ended", "epoch", "length")

    def __init__(self) -> None:
        self.epoch = 0
        self.length = 0
        self.ended = False
        self._pieces: list[str] = []
        self._starts: list[int] = []
        self._waiting: set[asyncio.Future[None]] = set()

    def begin(self, epoch: int) -> None:
        """Forget the text of an earlier epoch. A text of a later epoch stays."""
        if epoch > self.epoch:
            self.epoch, self.length, self.ended = epoch, 0, False
            self._pieces, self._starts = [], []

    def append(self, text: str) -> None:
        self._starts.append(self.length)
        self._pieces.append(text)
        self.length += len(text)

    def end(self) -> None:
        self.ended = True
        self.wake()

    def since(self, seq: int) -> str:
        """Give the text behind the first `seq` characters."""
        if seq >= self.length:
            return ""
        first = self._piece_at(seq)
        tail = self._pieces[first:] if first else self._pieces
        joined = tail[0] if len(tail) == 1 else "".join(tail)
        return joined[seq - self._starts[first] :]

    def _piece_at(self, seq: int) -> int:
        # A viewer that keeps up looks for the last piece or one shortly before it.
        index = len(self._starts) - 1
        while self._starts[index] > seq:
            index -= 1
        return index

    def wake(self) -> None:
        """Tell every viewer that waits that there is something to look at."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def changed(self, *, timeout: float) -> bool:  # noqa: ASYNC109  # a pause, not a deadline for the caller
        """Wait for the next `wake`, at most `timeout` seconds; False when the time ran out."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            done, _ = await asyncio.wait([future], timeout=timeout)
        finally:
            self._waiting.discard(future)
        return bool(done)


class EventLog(Protocol):
    def begin(self, generation_id: uuid.UUID, epoch: int) -> None:
        """Start a text; viewers of an earlier epoch see it withdrawn."""

    def append(self, generation_id: uuid.UUID, epoch: int, text: str) -> None:
        """Add text. Never waits, so that the provider is never held up by a reader or a log."""

    def end(self, generation_id: uuid.UUID, epoch: int) -> None:
        """Say that the row holds the end. Called after the row was saved, never before."""

    def follow(self, generation_id: uuid.UUID) -> AbstractContextManager[Channel]:
        """Give the channel of a text, alive as long as somebody follows or writes it."""
