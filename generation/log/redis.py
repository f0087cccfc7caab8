"""The event log of a site that is many processes: each text is a Redis stream beside the channels of each process.

What a process writes itself goes straight into its own channels, as in memory.py, and is copied to Redis by one
task that never holds the writer up. What another process writes is read by one task for all viewers, on a
connection of its own.

The id of an entry is the cursor of the text's end, `{epoch}-{seq}`. Redis refuses an id that is not above the last
one, so a producer whose lease ran out while it slept cannot add anything behind its successor, and sending an entry
twice adds it once. Entries say where their text starts: after a break everything is sent again as one entry, and
readers take what they lack.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from generation.cursor import Cursor
from generation.log.channel import Channel
from generation.log.memory import MemoryLog
from generation.pace import MERGE_SECONDS

logger = logging.getLogger("generation.log")

PREFIX = "profession-simulator"
# How long a stream is kept when its text has ended: for viewers that are a moment behind. Later ones read the row.
KEPT_SECONDS = 60
CONTROL_KEPT_SECONDS = 3600
# Commands give up after this; the reader, which waits for minutes by design, has no such limit.
COMMAND_SECONDS = 2.0
RETRY_SECONDS = 0.5
BLOCK_MILLISECONDS = 30_000
READ_AT_ONCE = 200
# Part of the error with which Redis refuses an id that is not above the last one.
OUT_OF_ORDER = "equal or smaller"


def _stream(generation_id: uuid.UUID) -> str:
    return f"{PREFIX}:text:{generation_id}"


def _control(owner: str) -> str:
    return f"{PREFIX}:control:{owner}"


@dataclass(eq=False, slots=True)
class _Outgoing:
    """What Redis has and lacks of one text that this process writes."""

    channel: Channel
    epoch: int
    begun: bool = False
    sent: int = 0
    ended: bool = False


class RedisLog:
    def __init__(self, url: str, *, owner: str) -> None:
        self._url = url
        self._owner = owner
        self._local = MemoryLog()
        self._outgoing: dict[uuid.UUID, _Outgoing] = {}
        self._dirty: set[uuid.UUID] = set()
        self._something_to_send = asyncio.Event()
        self._something_urgent = asyncio.Event()
        self._remote: dict[uuid.UUID, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Which of sending, reading and telling fail now; a full Redis can be read.
        self._failing: set[str] = set()
        # The reader must not be told "time-out" by its socket: redis-py would silently issue the blocking read again.
        self._redis = Redis.from_url(
            url, decode_responses=True, socket_timeout=COMMAND_SECONDS, socket_connect_timeout=COMMAND_SECONDS
        )
        self._blocking = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=None,
            socket_connect_timeout=COMMAND_SECONDS,
            health_check_interval=0,
        )

    def start(self, *, on_cancel: Callable[[uuid.UUID], None], on_fenced: Callable[[uuid.UUID], None]) -> None:
        self._on_cancel, self._on_fenced = on_cancel, on_fenced
        loop = asyncio.get_running_loop()
        for work in (self._send_for_ever(), self._read_for_ever()):
            self._keep(loop.create_task(work))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(COMMAND_SECONDS):
                await self._send()
        while self._tasks:
            # redis-py can swallow a cancellation that reaches it while it gives up a broken connection.
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=0.1)
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()
            await self._blocking.aclose()

    # Writing

    def begin(self, generation_id: uuid.UUID, epoch: int) -> None:
        self._local.begin(generation_id, epoch)
        outgoing = _Outgoing(self._local.hold(generation_id), epoch)
        if earlier := self._outgoing.get(generation_id):  # its end may still be on its way
            self._forget(generation_id, earlier)
        self._outgoing[generation_id] = outgoing
        self._send_soon(generation_id, urgent=True)

    def append(self, generation_id: uuid.UUID, epoch: int, text: str) -> None:
        self._local.append(generation_id, epoch, text)
        outgoing = self._outgoing.get(generation_id)
        if outgoing is not None and outgoing.epoch == epoch:
            self._send_soon(generation_id, urgent=outgoing.sent == 0)

    def end(self, generation_id: uuid.UUID, epoch: int) -> None:
        self._local.end(generation_id, epoch)
        outgoing = self._outgoing.get(generation_id)
        if outgoing is not None and outgoing.epoch == epoch:
            outgoing.ended = True
            self._send_soon(generation_id, urgent=True)

    def leave(self, generation_id: uuid.UUID, epoch: int) -> None:
        self._local.leave(generation_id, epoch)
        outgoing = self._outgoing.get(generation_id)
        if outgoing is not None and outgoing.epoch == epoch:
            self._forget(generation_id, outgoing)
        if self._local.is_held(generation_id):
            self._read_also(generation_id)

    def fail(self, generation_id: uuid.UUID) -> None:
        self._local.fail(generation_id)

    def _forget(self, generation_id: uuid.UUID, outgoing: _Outgoing) -> None:
        """Stop sending a text in one epoch; a later one stays."""
        if self._outgoing.get(generation_id) is outgoing:
            del self._outgoing[generation_id]
            self._local.release(generation_id)

    def _send_soon(self, generation_id: uuid.UUID, *, urgent: bool) -> None:
        self._dirty.add(generation_id)
        self._something_to_send.set()
        if urgent:
            self._something_urgent.set()

    async def _send_for_ever(self) -> None:
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            self._something_urgent.clear()
            try:
                await self._send()
            except (RedisError, OSError) as error:
                self._lost(error, what="sends")
                await asyncio.sleep(RETRY_SECONDS)
                self._something_to_send.set()
                continue
            self._found(what="sends")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MERGE_SECONDS):
                    await self._something_urgent.wait()

    async def _send(self) -> None:
        """Send everything that Redis lacks in one go."""
        batch = [(key, self._outgoing[key]) for key in self._dirty if key in self._outgoing]
        self._dirty.clear()
        if not batch:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            plans = [_queue(pipeline, key, outgoing) for key, outgoing in batch]
            try:
                results = await pipeline.execute(raise_on_error=False)
                for (key, outgoing), plan in zip(batch, plans, strict=True):
                    answers, results = results[: plan.commands], results[plan.commands :]
                    await self._note_as_sent(key, outgoing, plan, answers)
            except (RedisError, OSError):
                self._send_all_again(batch)
                raise

    def _send_all_again(self, batch: list[tuple[uuid.UUID, _Outgoing]]) -> None:
        for key, outgoing in batch:
            if outgoing.ended:
                self._forget(key, outgoing)  # the row has the end, and viewers find it there
            elif self._outgoing.get(key) is outgoing:
                outgoing.begun, outgoing.sent = False, 0
                self._dirty.add(key)

    async def _note_as_sent(self, key: uuid.UUID, outgoing: _Outgoing, plan: "_Plan", answers: list[object]) -> None:
        """Record what Redis has taken. Raises the error with which it refused anything else than the order."""
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        for error in refused:
            if OUT_OF_ORDER not in str(error):
                raise error
        if refused and await self._is_fenced(key, outgoing.epoch):
            if self._outgoing.get(key) is outgoing:
                self._forget(key, outgoing)
                self._on_fenced(key)
            return
        outgoing.begun, outgoing.sent = True, plan.sent
        if plan.ended:
            self._forget(key, outgoing)

    async def _is_fenced(self, key: uuid.UUID, epoch: int) -> bool:
        """Return whether an entry was refused because a later epoch is there, and not because it is there itself."""
        last: Any = await self._redis.xrevrange(_stream(key), count=1)
        return bool(last) and _position(last[0][0]).epoch > epoch

    # Reading

    @contextmanager
    def follow(self, generation_id: uuid.UUID) -> Iterator[Channel]:
        try:
            with self._local.follow(generation_id) as channel:
                if generation_id not in self._outgoing:
                    self._read_also(generation_id)
                yield channel
        finally:
            if not self._local.is_held(generation_id):
                self._remote.pop(generation_id, None)

    def _read_also(self, generation_id: uuid.UUID) -> None:
        if generation_id not in self._remote:
            self._remote[generation_id] = "0-0"
            self._tell(self._owner, "wake", "")

    def ask_to_cancel(self, generation_id: uuid.UUID, owner: str) -> None:
        self._tell(owner, "cancel", str(generation_id))

    def _tell(self, owner: str, word: str, value: str) -> None:
        self._keep(asyncio.get_running_loop().create_task(self._send_word(owner, word, value)))

    async def _send_word(self, owner: str, word: str, value: str) -> None:
        try:
            await self._redis.xadd(_control(owner), {word: value}, maxlen=1000)
            await self._redis.expire(_control(owner), CONTROL_KEPT_SECONDS)
        except (RedisError, OSError) as error:
            self._lost(error, what="words")
        else:
            self._found(what="words")

    async def _read_for_ever(self) -> None:
        last_word = "0-0"
        while True:
            followed: Any = {_stream(key): last for key, last in self._remote.items() if key not in self._outgoing}
            try:
                answer: Any = await self._blocking.xread(
                    {_control(self._owner): last_word} | followed, count=READ_AT_ONCE, block=BLOCK_MILLISECONDS
                )
            except (RedisError, OSError) as error:
                self._lost(error, what="reads")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._found(what="reads")
            for name, entries in answer:
                if name == _control(self._owner):
                    last_word = entries[-1][0]
                    self._obey(entries)
                else:
                    self._mirror(uuid.UUID(name.rpartition(":")[2]), entries)
            # What arrives meanwhile comes with the next answer, in one go for all texts.
            await asyncio.sleep(MERGE_SECONDS / 2)

    def _obey(self, entries: list[tuple[str, dict[str, str]]]) -> None:
        for _, words in entries:
            if "cancel" in words:
                self._on_cancel(uuid.UUID(words["cancel"]))

    def _mirror(self, generation_id: uuid.UUID, entries: list[tuple[str, dict[str, str]]]) -> None:
        if generation_id not in self._remote or not self._local.is_held(generation_id):
            return
        self._remote[generation_id] = entries[-1][0]
        channel = self._local.hold(generation_id)
        try:
            for entry_id, fields in entries:
                _take(channel, _position(entry_id), fields)
        finally:
            channel.wake()
            self._local.release(generation_id)

    # Both

    def wake_all(self) -> None:
        self._local.wake_all()

    def _lost(self, error: Exception, *, what: str) -> None:
        if not self._failing:
            logger.warning("Redis does not do its work, texts go on into the database: %s", type(error).__name__)
        self._failing.add(what)

    def _found(self, *, what: str) -> None:
        if what in self._failing:
            self._failing.remove(what)
            if not self._failing:
                logger.info("Redis is back")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a batch holds of one text: the number of commands, and where Redis is when they have succeeded."""

    commands: int
    sent: int
    ended: bool


def _queue(pipeline: Pipeline, key: uuid.UUID, outgoing: _Outgoing) -> _Plan:
    """Add the commands that bring Redis up to date with a text."""
    before = len(pipeline)
    channel, name = outgoing.channel, _stream(key)
    if not outgoing.begun:
        pipeline.xadd(name, {"from": 0, "text": ""}, id=f"{outgoing.epoch}-0")
        pipeline.expire(name, int(settings.LLM_TIMEOUT_SECONDS) + KEPT_SECONDS)
    if channel.epoch == outgoing.epoch and channel.length > outgoing.sent:
        fields: Any = {"from": outgoing.sent, "text": channel.since(outgoing.sent)}
        pipeline.xadd(name, fields, id=str(Cursor(outgoing.epoch, channel.length)), maxlen=_most_entries())
    if outgoing.ended:
        pipeline.xadd(name, {"end": ""}, id=str(Cursor(outgoing.epoch, channel.length + 1)))
        pipeline.expire(name, KEPT_SECONDS)
    return _Plan(len(pipeline) - before, channel.length, outgoing.ended)


def _position(entry_id: str) -> Cursor:
    epoch, _, seq = entry_id.partition("-")
    return Cursor(int(epoch), int(seq))


def _most_entries() -> int:
    """As many as a text can have that is written for as long as one may be, and then some."""
    return 2 * int(settings.LLM_TIMEOUT_SECONDS / MERGE_SECONDS) + 100


def _take(channel: Channel, position: Cursor, fields: dict[str, str]) -> None:
    """Bring a channel up to date with an entry that another process wrote."""
    channel.begin(position.epoch)
    if position.epoch < channel.epoch:
        return
    if "end" in fields:
        channel.end()
        return
    start = int(fields["from"])
    # With a gap before it the text cannot be shown as it grows; viewers get it from the row.
    if start <= channel.length < position.seq:
        channel.append(fields["text"][channel.length - start :])
