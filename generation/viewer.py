"""Viewers: each reads one generation from a cursor to its end, from the log while it is written and from the row in
doubt.

A viewer never owns the work. It can leave at any moment and come back with the last cursor it saw.
"""

import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from generation import producer
from generation.cursor import Cursor
from generation.log import Channel
from generation.models import Generation
from generation.offload import offload

# After so much silence a viewer says that it is still there, and looks at the row: the log may have lost an event,
# or the producer may have died.
SILENCE_SECONDS = 15.0
UNSAVED_SECONDS = 1.0
# A stored text is replayed in pieces, so that a client that breaks off resumes in the middle.
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
class Silence:
    """Nothing happened for SILENCE_SECONDS."""


@dataclass(frozen=True, slots=True)
class End:
    """The row is final."""

    cursor: Cursor
    generation: Generation


Event = Text | Reset | Silence | End


async def view(generation_id: uuid.UUID, *, after: Cursor) -> AsyncGenerator[Event, None]:
    """Yield everything behind `after`, each once, and last an End; ends without one if the row is deleted."""
    shown = after
    with producer.event_log.follow(generation_id) as channel:
        while True:
            generation = await offload(Generation.objects.filter(pk=generation_id).first)
            if generation is None:
                return
            if generation.is_final:
                for event in replay(generation, after=shown):
                    yield event
                return
            producer.ensure(generation_id)
            if channel.ended:
                # The text ended and the row does not know: the database failed, or it is about to be written anew.
                await channel.changed(timeout=UNSAVED_SECONDS)
            async with aclosing(_live(channel, after=shown)) as live:
                async for change in live:
                    shown = change.cursor
                    yield change
            if not channel.ended:
                yield Silence()


async def _live(channel: Channel, *, after: Cursor) -> AsyncGenerator[Text | Reset, None]:
    """Yield what arrives in the channel, until it ends or falls silent."""
    shown = after
    while not channel.ended:
        if channel.epoch > shown.epoch:
            withdrawn = shown.seq > 0
            shown = Cursor(channel.epoch, 0)
            if withdrawn:
                yield Reset(shown)
        text = channel.since(shown.seq) if channel.epoch == shown.epoch else ""
        if text:
            shown = Cursor(shown.epoch, shown.seq + len(text))
            yield Text(shown, text)
        elif not await channel.changed(timeout=SILENCE_SECONDS):
            return


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
    yield End(generation.end_cursor, generation)


def has_seen_everything(generation: Generation, *, after: Cursor) -> bool:
    return generation.is_final and after == generation.end_cursor


async def wait_for_end(generation_id: uuid.UUID) -> Generation | None:
    """Wait until the row is final and give it; None if it is deleted."""
    async for event in view(generation_id, after=Cursor(0, 0)):
        if isinstance(event, End):
            return event.generation
    return None
