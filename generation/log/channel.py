import asyncio
import sys
from bisect import bisect_left, bisect_right


class Channel:
    """What is known in this process of one text being written: its epoch and the text so far.

    Viewers keep their own position and take everything behind it at once, so a slow reader costs no memory of its own
    and a burst of tokens becomes one event.
    """

    __slots__ = ("_pieces", "_starts", "_waiting", "ended", "epoch", "failures", "length")

    def __init__(self) -> None:
        self.epoch = 0
        self.length = 0
        self.ended = False
        # How often this process found that it could not store the text.
        self.failures = 0
        self._pieces: list[str] = []
        self._starts: list[int] = []
        self._waiting: set[asyncio.Future[None]] = set()

    def begin(self, epoch: int) -> None:
        """Forget the text of an earlier epoch; an epoch that is over changes nothing."""
        if epoch > self.epoch:
            self.epoch, self.length, self.ended = epoch, 0, False
            self._pieces, self._starts = [], []
            self.wake()

    def append(self, text: str) -> None:
        self._starts.append(self.length)
        self._pieces.append(text)
        self.length += len(text)

    def end(self) -> None:
        self.ended = True
        self.wake()

    def fail(self) -> None:
        self.failures += 1
        self.wake()

    def since(self, seq: int, *, most: int = sys.maxsize) -> str:
        """Return the text behind the first `seq` characters, at most so many."""
        if seq >= self.length:
            return ""
        first = bisect_right(self._starts, seq) - 1
        behind = bisect_left(self._starts, seq + most, lo=first + 1)
        text = self._pieces[first] if behind == first + 1 else "".join(self._pieces[first:behind])
        start = seq - self._starts[first]
        return text[start : start + most]

    def wake(self) -> None:
        """Wake everybody who waits in `changed`."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def changed(self) -> None:
        """Wait for the next `wake`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
