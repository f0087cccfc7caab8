"""Open streams are looked at together: what the event log did not tell, the rows do."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from django.db import OperationalError

from accounts.models import User
from generation import watch
from generation.log.memory import MemoryLog
from generation.models import Generation
from generation.models.generation import GenerationQuerySet
from generation.offload import offload
from generation.process import Process
from generation.viewer import Event, Heartbeat, StreamEnd, Text
from tests.viewers import claimed_elsewhere, read_on
from tests.waiting import run_async

SOON = 60.0


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def process(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> Process:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.3)
    return Process(event_log=log)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each look asked for."""
    asked: list[int] = []
    look = GenerationQuerySet.being_written

    def counted(self: GenerationQuerySet, pks: set[object]) -> set[object]:
        asked.append(len(pks))
        return look(self, pks)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(GenerationQuerySet, "being_written", counted)
    return asked


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)  # between two looks at the condition


def go(scenario: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(SOON):
            await scenario

    run_async(limited())


def test_an_end_that_the_log_lost_is_found_in_the_row(
    transactional_db: None, alice: User, process: Process, log: MemoryLog
) -> None:
    (generation,) = claimed_elsewhere(alice)

    async def scenario() -> None:
        events: list[Event] = []
        log.begin(generation.pk, 1)
        log.append(generation.pk, 1, "One.")
        reading = asyncio.create_task(read_on(process, events, generation))
        await until(lambda: any(isinstance(event, Text) for event in events))
        await offload(generation.save_end, Generation.Status.COMPLETED, text="One.")
        await reading
        assert isinstance(events[-1], StreamEnd)

    go(scenario())


def test_who_may_no_longer_read_is_sent_nothing_more(
    transactional_db: None, alice: User, process: Process, log: MemoryLog
) -> None:
    (generation,) = claimed_elsewhere(alice)

    async def scenario() -> None:
        events: list[Event] = []
        log.begin(generation.pk, 1)
        reading = asyncio.create_task(read_on(process, events, generation))
        await until(lambda: any(isinstance(event, Heartbeat) for event in events))
        await offload(User.objects.filter(pk=alice.pk).update, is_active=False)
        await reading
        assert not any(isinstance(event, StreamEnd) for event in events)

    go(scenario())


def test_a_text_whose_lease_ran_out_is_taken_over(
    transactional_db: None, alice: User, process: Process, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (generation,) = claimed_elsewhere(alice)
    ensured: list[object] = []
    monkeypatch.setattr(process.supervisor, "ensure", ensured.append)

    async def scenario() -> None:
        reading = asyncio.create_task(read_on(process, [], generation))
        await until(lambda: len(ensured) == 1)
        await offload(Generation.objects.expire_leases)
        await until(lambda: len(ensured) > 1)
        reading.cancel()

    go(scenario())


def test_one_query_looks_for_many_and_they_are_told_that_somebody_is_there(
    transactional_db: None, alice: User, process: Process, looks: list[int]
) -> None:
    generations = claimed_elsewhere(alice, 4 * watch.ROUNDS)

    async def scenario() -> None:
        seen: list[list[Event]] = [[] for _ in generations]
        reading = [
            asyncio.create_task(read_on(process, events, generation))
            for generation, events in zip(generations, seen, strict=True)
        ]
        await until(lambda: all(any(isinstance(event, Heartbeat) for event in events) for events in seen))
        assert max(looks) == 4
        for task in reading:
            task.cancel()

    go(scenario())


def test_streams_outlive_a_database_that_fails(
    transactional_db: None, alice: User, process: Process, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (generation,) = claimed_elsewhere(alice)

    def fail(self: GenerationQuerySet, pks: object) -> None:
        raise OperationalError("the database is not there")

    monkeypatch.setattr(GenerationQuerySet, "being_written", fail)

    async def scenario() -> None:
        events: list[Event] = []
        log.begin(generation.pk, 1)
        reading = asyncio.create_task(read_on(process, events, generation))
        await until(lambda: sum(isinstance(event, Heartbeat) for event in events) > 1)
        log.append(generation.pk, 1, "Still here.")
        await until(lambda: any(isinstance(event, Text) for event in events))
        assert not reading.done()
        reading.cancel()

    go(scenario())


def test_nobody_is_looked_for_when_nobody_reads(
    transactional_db: None, alice: User, process: Process, looks: list[int]
) -> None:
    (generation,) = claimed_elsewhere(alice)

    async def scenario() -> None:
        reading = asyncio.create_task(read_on(process, [], generation))
        await until(lambda: bool(looks))
        reading.cancel()
        await until(lambda: "_watch" not in {task.get_coro().__qualname__ for task in asyncio.all_tasks()})  # type: ignore[union-attr]

    go(scenario())


def test_a_database_that_hangs_keeps_nobody_waiting_for_a_sign_of_life(
    transactional_db: None, alice: User, process: Process, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    generations = claimed_elsewhere(alice, watch.ROUNDS)
    hanging = threading.Event()

    def hang(self: GenerationQuerySet, pks: object) -> None:
        hanging.wait(SOON)

    monkeypatch.setattr(GenerationQuerySet, "being_written", hang)

    async def scenario() -> None:
        seen: list[list[Event]] = [[] for _ in generations]
        reading = [
            asyncio.create_task(read_on(process, events, generation))
            for generation, events in zip(generations, seen, strict=True)
        ]
        try:
            await until(lambda: all(sum(isinstance(event, Heartbeat) for event in events) > 1 for events in seen))
        finally:
            hanging.set()
            for task in reading:
                task.cancel()

    go(scenario())


def test_who_comes_when_the_watch_has_just_ended_is_watched_over(
    transactional_db: None, alice: User, process: Process, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (generation,) = claimed_elsewhere(alice)

    async def scenario() -> None:
        ended = asyncio.create_task(asyncio.sleep(0))
        await ended
        process.watch._task = ended  # noqa: SLF001  # as it is between a task's end and the next step
        events: list[Event] = []
        reading = asyncio.create_task(read_on(process, events, generation))
        await until(lambda: any(isinstance(event, Heartbeat) for event in events))
        reading.cancel()

    go(scenario())
