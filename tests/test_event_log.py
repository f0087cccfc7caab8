"""What producers and viewers rely on in an event log, the same for each implementation."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from generation.log import Channel, EventLog
from generation.log.memory import MemoryLog
from generation.log.redis import RedisLog
from tests.stores import Redis
from tests.waiting import free_port, run_async

GENERATION = uuid.UUID("6f1c7c1e-0000-4000-8000-000000000001")


class Pair:
    """A log to write to and a log to read from: the same one, or two of two processes."""

    def __init__(self, writer: EventLog, reader: EventLog) -> None:
        self.writer, self.reader = writer, reader
        self.cancelled: list[uuid.UUID] = []
        self.fenced: list[uuid.UUID] = []


@pytest.fixture(params=["one process", "two processes"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Pair], Awaitable[None]]], None]:
    """Run a scenario on a pair of logs."""
    url = request.getfixturevalue("redis_server").url if request.param == "two processes" else ""

    @asynccontextmanager
    async def pair() -> AsyncIterator[Pair]:
        memory = MemoryLog()
        logs = Pair(RedisLog(url, owner="writer"), RedisLog(url, owner="reader")) if url else Pair(memory, memory)
        for log in {logs.writer, logs.reader}:
            log.start(on_cancel=logs.cancelled.append, on_fenced=logs.fenced.append)
        try:
            yield logs
        finally:
            for log in {logs.writer, logs.reader}:
                await log.stop()

    def run_scenario(scenario: Callable[[Pair], Awaitable[None]]) -> None:
        async def go() -> None:
            async with pair() as logs, asyncio.timeout(20):
                await scenario(logs)

        run_async(go())

    return run_scenario


async def seen(channel: Channel, text: str, *, epoch: int = 1) -> None:
    """Wait until a channel holds just this text."""
    while not (channel.epoch == epoch and channel.since(0) == text):
        await channel.changed()


Run = Callable[[Callable[[Pair], Awaitable[None]]], None]


def test_a_reader_sees_text_in_order_and_then_the_end(run: Run) -> None:
    async def scenario(logs: Pair) -> None:
        with logs.reader.follow(GENERATION) as channel:
            logs.writer.begin(GENERATION, 1)
            for piece in ("One ", "two ", "три 🌹 "):
                logs.writer.append(GENERATION, 1, piece)
            await seen(channel, "One two три 🌹 ")
            assert not channel.ended
            assert channel.since(4) == "two три 🌹 "
            assert channel.since(9) == "ри 🌹 "
            assert channel.since(len("One two три 🌹 ")) == ""
            logs.writer.append(GENERATION, 1, "four")
            logs.writer.end(GENERATION, 1)
            while not channel.ended:
                await channel.changed()
            assert channel.since(0) == "One two три 🌹 four"

    run(scenario)


def test_a_reader_who_comes_late_sees_everything(run: Run) -> None:
    async def scenario(logs: Pair) -> None:
        logs.writer.begin(GENERATION, 1)
        with logs.writer.follow(GENERATION) as own:
            logs.writer.append(GENERATION, 1, "early ")
            await seen(own, "early ")
            with logs.reader.follow(GENERATION) as channel:
                logs.writer.append(GENERATION, 1, "late")
                await seen(channel, "early late")
        logs.writer.end(GENERATION, 1)

    run(scenario)


def test_a_later_epoch_withdraws_the_text_and_the_earlier_one_can_add_nothing(run: Run) -> None:
    async def scenario(logs: Pair) -> None:
        with logs.reader.follow(GENERATION) as channel:
            logs.writer.begin(GENERATION, 1)
            logs.writer.append(GENERATION, 1, "first")
            await seen(channel, "first")
            successor = logs.reader
            successor.begin(GENERATION, 2)
            successor.append(GENERATION, 2, "second")
            await seen(channel, "second", epoch=2)
            logs.writer.append(GENERATION, 1, " zombie")
            logs.writer.end(GENERATION, 1)
            if logs.writer is not logs.reader:
                while not logs.fenced:
                    await asyncio.sleep(0.01)  # between two looks
            assert (channel.epoch, channel.since(0), channel.ended) == (2, "second", False)
            successor.append(GENERATION, 2, " and more")
            await seen(channel, "second and more", epoch=2)
            successor.end(GENERATION, 2)
            assert channel.ended

    run(scenario)


def test_many_readers_of_many_texts_see_each_their_own(run: Run) -> None:
    texts = [uuid.uuid4() for _ in range(20)]

    async def scenario(logs: Pair) -> None:
        async def read(key: uuid.UUID, number: int) -> None:
            with logs.reader.follow(key) as channel:
                await seen(channel, f"text {number}")

        readers = [asyncio.create_task(read(key, number)) for number, key in enumerate(texts) for _ in range(5)]
        for number, key in enumerate(texts):
            logs.writer.begin(key, 1)
            logs.writer.append(key, 1, "text ")
            logs.writer.append(key, 1, str(number))
        await asyncio.gather(*readers)
        for key in texts:
            logs.writer.end(key, 1)

    run(scenario)


def test_nothing_is_kept_when_nobody_writes_or_reads(run: Run) -> None:
    async def scenario(logs: Pair) -> None:
        with logs.reader.follow(GENERATION) as channel:
            logs.writer.begin(GENERATION, 1)
            logs.writer.append(GENERATION, 1, "text")
            logs.writer.end(GENERATION, 1)
            while not channel.ended:
                await channel.changed()
        with logs.reader.follow(GENERATION) as channel:
            assert (channel.epoch, channel.length) == (0, 0)

    run(scenario)


@pytest.mark.parametrize("steps", range(6))
def test_a_text_that_begins_again_while_its_end_is_on_its_way_is_seen_and_then_forgotten(run: Run, steps: int) -> None:
    async def scenario(logs: Pair) -> None:
        with logs.reader.follow(GENERATION) as channel:
            logs.writer.begin(GENERATION, 1)
            logs.writer.append(GENERATION, 1, "first")
            await seen(channel, "first")
            logs.writer.end(GENERATION, 1)
            for _ in range(steps):
                await asyncio.sleep(0)
            logs.writer.begin(GENERATION, 2)
            logs.writer.append(GENERATION, 2, "second")
            await seen(channel, "second", epoch=2)
            logs.writer.append(GENERATION, 2, " and more")
            await seen(channel, "second and more", epoch=2)
            logs.writer.end(GENERATION, 2)
            while not channel.ended:
                await channel.changed()
        assert logs.fenced == []
        await logs.writer.stop()
        with logs.writer.follow(GENERATION) as channel:
            assert (channel.epoch, channel.length) == (0, 0)

    run(scenario)


class TestTwoProcesses:
    """What only a log of many processes can show."""

    @pytest.fixture
    def run(self, redis_server: Redis) -> Run:
        def run_scenario(scenario: Callable[[Pair], Awaitable[None]]) -> None:
            async def go() -> None:
                logs = Pair(RedisLog(redis_server.url, owner="writer"), RedisLog(redis_server.url, owner="reader"))
                for log in (logs.writer, logs.reader):
                    log.start(on_cancel=logs.cancelled.append, on_fenced=logs.fenced.append)
                async with asyncio.timeout(20):
                    await scenario(logs)
                for log in (logs.writer, logs.reader):
                    await log.stop()

            run_async(go())

        return run_scenario

    def test_the_process_that_writes_hears_that_a_text_is_to_stop(self, run: Run) -> None:
        async def scenario(logs: Pair) -> None:
            logs.reader.ask_to_cancel(GENERATION, "writer")
            while not logs.cancelled:
                await asyncio.sleep(0.01)  # between two looks
            assert logs.cancelled == [GENERATION]

        run(scenario)

    def test_a_text_is_whole_again_when_redis_was_gone_and_came_back_empty(self, run: Run, redis_server: Redis) -> None:
        async def scenario(logs: Pair) -> None:
            with logs.reader.follow(GENERATION) as channel:
                logs.writer.begin(GENERATION, 1)
                logs.writer.append(GENERATION, 1, "before ")
                await seen(channel, "before ")
                await asyncio.to_thread(redis_server.kill)
                for _ in range(20):
                    logs.writer.append(GENERATION, 1, "x")
                    await asyncio.sleep(0.01)  # lets the sender meet the dead server
                await asyncio.to_thread(redis_server.start)
                logs.writer.append(GENERATION, 1, " after")
                await seen(channel, "before " + "x" * 20 + " after")
                with logs.reader.follow(GENERATION) as late:
                    assert late is channel
                logs.writer.end(GENERATION, 1)
                while not channel.ended:
                    await channel.changed()

        run(scenario)

    @pytest.mark.parametrize("refusal", ["full", "read only"])
    def test_what_redis_refuses_counts_as_not_sent(
        self, run: Run, redis_server: Redis, refusal: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse() -> None:
            if refusal == "full":
                redis_server.client.config_set("maxmemory", 1)
            else:
                redis_server.client.replicaof("127.0.0.1", free_port())

        def take_again() -> None:
            redis_server.client.config_set("maxmemory", 0)
            redis_server.client.replicaof("NO", "ONE")

        async def scenario(logs: Pair) -> None:
            with logs.reader.follow(GENERATION) as channel:
                logs.writer.begin(GENERATION, 1)
                logs.writer.append(GENERATION, 1, "before ")
                await seen(channel, "before ")
                await asyncio.to_thread(refuse)
                logs.writer.append(GENERATION, 1, "meanwhile ")
                while "Redis does not do its work" not in caplog.text:
                    await asyncio.sleep(0.01)  # between two looks
                await asyncio.to_thread(take_again)
                await seen(channel, "before meanwhile ")
                logs.writer.end(GENERATION, 1)
                while not channel.ended:
                    await channel.changed()

        run(scenario)

    def test_cut_connections_lose_nothing(self, run: Run, redis_server: Redis) -> None:
        async def scenario(logs: Pair) -> None:
            with logs.reader.follow(GENERATION) as channel:
                logs.writer.begin(GENERATION, 1)
                for number in range(30):
                    logs.writer.append(GENERATION, 1, f"{number} ")
                    if number % 10 == 5:
                        await seen(channel, "".join(f"{n} " for n in range(number + 1)))
                        redis_server.client.client_kill_filter(_type="normal", skipme=True)
                await seen(channel, "".join(f"{n} " for n in range(30)))
                logs.writer.end(GENERATION, 1)

        run(scenario)

    def test_streams_are_bounded_and_expire(self, run: Run, redis_server: Redis) -> None:
        async def scenario(logs: Pair) -> None:
            logs.writer.begin(GENERATION, 1)
            logs.writer.append(GENERATION, 1, "text")
            (name,) = await _keys(redis_server, "profession-simulator:text:*")
            assert 120 < int(str(redis_server.client.ttl(name))) <= 180
            logs.writer.end(GENERATION, 1)
            while int(str(redis_server.client.ttl(name))) > 60:
                await asyncio.sleep(0.01)  # between two looks

        run(scenario)


async def _keys(server: Redis, pattern: str) -> list[str]:
    while not (keys := list(server.client.scan_iter(pattern))):
        await asyncio.sleep(0.01)  # between two looks
    return keys
