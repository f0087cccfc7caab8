"""Viewers of a text that somebody else writes: what happens between two of their steps, and how they end."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
from django.db.models.signals import post_init

from accounts.models import User
from generation import viewer, watch
from generation.cursor import Cursor
from generation.log import EventLog
from generation.log.memory import MemoryLog
from generation.log.redis import RedisLog
from generation.models import Generation
from generation.offload import offload
from generation.process import Process
from generation.viewer import Event, StreamEnd, Text
from tests.viewers import claimed_elsewhere, read_on
from tests.waiting import run_async

SOON = 60.0  # long before a viewer looks at the row again, as the tests set that

Scenario = Callable[[Process, EventLog], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture
def generation(transactional_db: None, alice: User) -> Generation:
    """A text that a producer elsewhere has claimed."""
    return claimed_elsewhere(alice)[0]


@pytest.fixture(params=["one process", "two processes"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a scenario that is given the log to write to, while viewers read from their process's own."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 10 * SOON)

    def run_scenario(scenario: Scenario) -> None:
        async def go() -> None:
            writer: EventLog = MemoryLog()
            reader = writer
            if request.param == "two processes":
                url = request.getfixturevalue("redis_server").url
                writer, reader = RedisLog(url, owner="writer"), RedisLog(url, owner="reader")
            process = Process(event_log=reader)
            supervisor = process.supervisor
            for log in {writer, reader}:
                log.start(on_cancel=supervisor.stop, on_fenced=supervisor.abandon)
            async with asyncio.timeout(SOON):
                await scenario(process, writer)
            for log in {writer, reader}:
                await log.stop()

        run_async(go())

    return run_scenario


class SlowRow:
    """Rows come out of the database and then take their time to reach who asked."""

    def __init__(self) -> None:
        self.read, self.arrived = threading.Event(), threading.Event()

    def __call__(self, **kwargs: object) -> None:
        self.read.set()
        assert self.arrived.wait(SOON)


@pytest.fixture
def slow_row(generation: Generation) -> Iterator[SlowRow]:
    slow = SlowRow()
    post_init.connect(slow, sender=Generation)
    yield slow
    post_init.disconnect(slow, sender=Generation)


async def shown(events: list[Event], text: str) -> None:
    while text_of(events) != text:
        await asyncio.sleep(0.01)  # between two looks


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def finish(generation: Generation, text: str) -> bool:
    return generation.save_end(Generation.Status.COMPLETED, text=text)


def test_text_that_arrives_while_a_viewer_reads_the_row_is_seen_once(
    run: Run, generation: Generation, slow_row: SlowRow
) -> None:
    async def scenario(process: Process, log: EventLog) -> None:
        events: list[Event] = []
        log.begin(generation.pk, 1)
        log.append(generation.pk, 1, "One ")
        reading = asyncio.create_task(read_on(process, events, generation))
        await asyncio.to_thread(slow_row.read.wait, SOON)
        log.append(generation.pk, 1, "two ")
        slow_row.arrived.set()
        await shown(events, "One two ")
        log.append(generation.pk, 1, "three.")
        await offload(finish, generation, "One two three.")
        log.end(generation.pk, 1)
        await reading
        assert text_of(events) == "One two three."
        assert isinstance(events[-1], StreamEnd)

    run(scenario)


def test_an_end_that_arrives_while_a_viewer_reads_the_row_is_seen_at_once(
    run: Run, generation: Generation, slow_row: SlowRow
) -> None:
    async def scenario(process: Process, log: EventLog) -> None:
        events: list[Event] = []
        log.begin(generation.pk, 1)
        log.append(generation.pk, 1, "One ")
        reading = asyncio.create_task(read_on(process, events, generation))
        await asyncio.to_thread(slow_row.read.wait, SOON)
        log.append(generation.pk, 1, "two.")
        await asyncio.to_thread(finish, generation, "One two.")
        log.end(generation.pk, 1)
        slow_row.arrived.set()
        await reading
        assert text_of(events) == "One two."
        assert [type(event) for event in events].count(StreamEnd) == 1

    run(scenario)


def test_text_of_an_epoch_that_was_taken_over_is_withdrawn(run: Run, generation: Generation) -> None:
    async def scenario(process: Process, log: EventLog) -> None:
        events: list[Event] = []
        log.begin(generation.pk, 1)
        log.append(generation.pk, 1, "First.")
        reading = asyncio.create_task(read_on(process, events, generation))
        await shown(events, "First.")
        log.begin(generation.pk, 2)
        log.append(generation.pk, 2, "Second.")
        await shown(events, "First.Second.")
        assert [type(event) for event in events] == [Text, viewer.Reset, Text]
        reading.cancel()

    run(scenario)


def test_a_viewer_that_was_open_for_long_asks_to_come_back_and_goes_on_from_its_cursor(
    run: Run, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "OPEN_SECONDS", 0.3)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.1)

    async def scenario(process: Process, log: EventLog) -> None:
        before: list[Event] = []
        after: list[Event] = []
        log.begin(generation.pk, 1)
        log.append(generation.pk, 1, "One ")
        await read_on(process, before, generation)
        assert text_of(before) == "One "
        assert isinstance(before[-1], viewer.Reconnect)
        assert not [event for event in before if isinstance(event, StreamEnd | viewer.Reset)]
        log.append(generation.pk, 1, "two.")
        await offload(finish, generation, "One two.")
        log.end(generation.pk, 1)
        (cursor,) = [event.cursor for event in before if isinstance(event, Text)]
        await read_on(process, after, generation, after=cursor)
        assert text_of(after) == "two."
        assert [type(event) for event in after] == [Text, StreamEnd]

    run(scenario)


def test_a_single_character_that_was_shown_is_withdrawn_too(run: Run, generation: Generation) -> None:
    async def scenario(process: Process, log: EventLog) -> None:
        events: list[Event] = []
        log.begin(generation.pk, 1)
        log.append(generation.pk, 1, "F")
        reading = asyncio.create_task(read_on(process, events, generation))
        await shown(events, "F")
        log.begin(generation.pk, 2)
        log.append(generation.pk, 2, "Second.")
        await shown(events, "FSecond.")
        assert [type(event) for event in events] == [Text, viewer.Reset, Text]
        reading.cancel()

    run(scenario)


def test_a_final_row_of_another_epoch_withdraws_a_single_character(generation: Generation) -> None:
    generation.epoch, generation.text, generation.status = 2, "Second.", Generation.Status.COMPLETED
    events = list(viewer.replay(generation, after=Cursor(1, 1)))
    assert [type(event) for event in events] == [viewer.Reset, Text, StreamEnd]
    assert not any(isinstance(event, viewer.Reset) for event in viewer.replay(generation, after=Cursor(1, 0)))
