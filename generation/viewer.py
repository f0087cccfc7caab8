"""Viewers: each reads one generation from a cursor to its end, from the log while it is written and from the row in
doubt.

A viewer never owns the work. It can leave at any moment and come back with the last cursor it saw.
"""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from django.db import OperationalError

from accounts.access import Access
from generation.cursor import START, Cursor
from generation.log import Channel
from generation.models import Generation
from generation.offload import offload
from generation.process import Process
from generation.watch import Watched

# A viewer asks its client to come back after about this time, perhaps to another process: so connections spread again
# after a process was restarted.
OPEN_SECONDS = 300.0
UNSAVED_SECONDS = 1.0
# A text is sent in pieces of at most this size: a client that breaks off resumes in the middle, and one that does not
# read holds no whole text in memory.
REPLAY_CHARACTERS = 32_768


@dataclass(frozen=True, slots=True)
class Text:
    cursor: Cursor
    text: str


@dataclass(frozen=True, slots=True)
class Reset:
    """The text shown so far is withdrawn and begins again."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for a while."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The client is to come back: this process is going away, or the stream was open for long."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The row is final."""

    cursor: Cursor
    generation: Generation


Growth = Text | Reset | Heartbeat | Reconnect
Event = Growth | StreamEnd


async def view(
    process: Process, generation_id: uuid.UUID, *, after: Cursor, access: Access | None = None
) -> AsyncGenerator[Event, None]:
    """Yield everything behind `after`, each once, and last a StreamEnd.

    Ends without one if the row is deleted, if its person is no longer active or if the access ends; and with a
    Reconnect if this process is leaving, or after a few minutes. Raises DatabaseError when the row cannot be read, or
    this process cannot store the text.
    """
    loop = asyncio.get_running_loop()
    leave_at = loop.time() + OPEN_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
    shown = after
    with (
        process.event_log.follow(generation_id) as channel,
        process.watch.over(generation_id, channel.wake, access=access) as watched,
    ):
        failures = channel.failures
        while not watched.is_refused:
            if process.is_leaving or loop.time() >= leave_at:
                yield Reconnect(shown)
                return
            watched.is_in_doubt = False
            generation = await _row(generation_id, channel, failures=failures)
            if generation is None:
                return
            if generation.is_final:
                for event in replay(generation, after=shown):
                    yield event
                return
            del generation
            process.supervisor.ensure(generation_id)
            if channel.ended:
                # The text ended and the row does not know: the database failed, or it is about to be written anew.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(UNSAVED_SECONDS):
                        await channel.changed()
                yield Heartbeat(shown)
            while loop.time() < leave_at and _grows(process, channel, watched, failures=failures):
                news = _news(channel, watched, after=shown)
                for event in news:
                    yield event
                    shown = event.cursor
                if not news:
                    await channel.changed()


async def _row(generation_id: uuid.UUID, channel: Channel, *, failures: int) -> Generation | None:
    """Return the row. Raises DatabaseError also where the text could not be stored once more than `failures` times."""
    if channel.failures > failures:
        raise OperationalError("the text cannot be stored")
    rows = Generation.objects.without_prompts()
    return await offload(rows.filter(pk=generation_id, user__is_active=True).first)


def _grows(process: Process, channel: Channel, watched: Watched, *, failures: int) -> bool:
    """Return whether what is to come will come through the channel, as far as is known."""
    has_changed = channel.ended or channel.failures > failures
    return not (has_changed or watched.is_in_doubt or watched.is_refused or process.is_leaving)


def _news(channel: Channel, watched: Watched, *, after: Cursor) -> list[Text | Reset | Heartbeat]:
    """Return what the channel holds behind a cursor, or that there is nothing when it is time to say so."""
    events = _behind(channel, after=after)
    if not events and watched.is_due:
        events.append(Heartbeat(after))
    watched.is_due = False
    return events


def _behind(channel: Channel, *, after: Cursor) -> list[Text | Reset | Heartbeat]:
    """Return what the channel holds behind a cursor, or the next piece of it."""
    events: list[Text | Reset | Heartbeat] = []
    shown = after
    if channel.epoch > shown.epoch:
        shown = Cursor(channel.epoch, 0)
        if after.seq > 0:
            events.append(Reset(shown))
    if channel.epoch == shown.epoch and channel.length > shown.seq:
        text = channel.since(shown.seq, most=REPLAY_CHARACTERS)
        events.append(Text(Cursor(shown.epoch, shown.seq + len(text)), text))
    return events


def replay(generation: Generation, *, after: Cursor) -> Iterator[Event]:
    """Yield what a final row holds behind `after`."""
    shown = after
    if shown.epoch != generation.epoch:
        shown = Cursor(generation.epoch, 0)
        if after.seq > 0:
            yield Reset(shown)
    while shown.seq < len(generation.text):
        text = generation.text[shown.seq : shown.seq + REPLAY_CHARACTERS]
        shown = Cursor(shown.epoch, shown.seq + len(text))
        yield Text(shown, text)
    yield StreamEnd(generation.end_cursor, generation)


def has_seen_everything(generation: Generation, *, after: Cursor) -> bool:
    return generation.is_final and after == generation.end_cursor


async def wait_for_end(process: Process, generation_id: uuid.UUID) -> Generation | None:
    """Return the row when it is final; None if it is deleted, or not final when this process leaves.

    Raises DatabaseError as `view` does.
    """
    async with aclosing(view(process, generation_id, after=START)) as events:
        async for event in events:
            if isinstance(event, StreamEnd):
                return event.generation
    return None
