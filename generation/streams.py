"""A generation as a stream of events for a client.

What the text is for decides what its events carry. Whoever asks for texts of a kind registers a `Presentation` for
it; this app knows none of them.
"""

import random
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Protocol

from asgiref.sync import async_to_sync
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from accounts.access import Access, access_of
from generation import budget, producer, sse, viewer
from generation.cursor import START, Cursor, event_namer, parse_event_id
from generation.models import Generation
from generation.offload import offload
from generation.upstream.faults import FAULTS
from web.problems import Problem, in_both_languages

EventData = dict[str, object]

# What one process holds without anybody noticing. A person with more streams than tabs is a program gone wrong.
MOST_STREAMS = 4000
MOST_STREAMS_OF_ONE_PERSON = 20
# Whoever waits for a whole text holds a thread meanwhile.
MOST_WAITING = 200
_open: Counter[int] = Counter()
_waiting: Counter[int] = Counter()


class Presentation(Protocol):
    """How the generations of one kind look to a client. The methods may use the database."""

    text_event: str

    def opening(self, generation: Generation) -> EventData | None:
        """Data of the `metadata` event, None for no such event."""

    def closing(self, generation: Generation) -> tuple[str, EventData]:
        """Type and data of the event behind a complete text."""


class PlainText:
    """A text that is for nothing in particular."""

    text_event = "token"

    def opening(self, generation: Generation) -> EventData | None:
        return {"generation_id": str(generation.pk), "source": generation.source}

    def closing(self, generation: Generation) -> tuple[str, EventData]:
        return "done", {"full_text": generation.text, "completed": False, "generation_id": str(generation.pk)}


_presentations: dict[str, Presentation] = {}


def register(kind: str, presentation: Presentation) -> None:
    _presentations[kind] = presentation


def requested_cursor(request: HttpRequest, generation: Generation) -> Cursor | None:
    """Give where in this generation a client says it was: `Last-Event-ID`, which browsers send, or `?after=`."""
    value = request.headers.get("Last-Event-ID") or request.GET.get("after")
    return parse_event_id(value, generation.pk) if value else None


async def respond(
    request: HttpRequest, generation: Generation, *, when_ended: Callable[[], None] = lambda: None
) -> HttpResponseBase:
    """Answer with the events of a generation behind the request's cursor; 204 when there are none left.

    `when_ended` is called when a complete text was sent to its end, not when the client left before.
    """
    refuse_if_full(generation.user_id)
    cursor = requested_cursor(request, generation)
    if cursor is not None and viewer.has_seen_everything(generation, after=cursor):
        return HttpResponse(status=204)
    if request.method == "HEAD":
        return sse.headers_of_a_stream()
    language = translation.get_language()
    access = await access_of(request)
    return sse.stream_response(_frames(generation, cursor, access=access, language=language, when_ended=when_ended))


def refuse_if_full(user_id: int) -> None:
    """Refuse another stream where there are as many as can be held.

    Raises: Problem: 503 with a time to come back at that differs from client to client, so that they do not all
    come at once.
    """
    if _open.total() >= MOST_STREAMS or _open[user_id] + _waiting[user_id] >= MOST_STREAMS_OF_ONE_PERSON:
        raise too_many()


def too_many() -> Problem:
    return Problem(
        _("There are as many open streams as this server can hold. Try again in a moment."),
        code="too_many_streams",
        status=503,
        retry_after=random.randint(2, 10),  # noqa: S311  # no secret
    )


@contextmanager
def counted(user_id: int, *, among: Counter[int] = _open) -> Iterator[None]:
    """Count an open stream of a person, or somebody who waits for a whole text, for `refuse_if_full`."""
    among[user_id] += 1
    try:
        yield
    finally:
        among[user_id] -= 1
        if not among[user_id]:
            del among[user_id]


async def _frames(
    generation: Generation, cursor: Cursor | None, *, access: Access, language: str, when_ended: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    presentation = _presentations.get(generation.kind) or PlainText()
    generation_id = generation.pk
    name = event_namer(generation_id)
    with counted(generation.user_id):
        await sse.release_request_resources()
        yield sse.OPENING
        if cursor is None:
            cursor = START
            opening = await offload(presentation.opening, generation)
            if opening is not None:
                yield sse.frame("metadata", opening, event_id=name(cursor))
            del opening
        # What was read to answer the request, the whole simulation perhaps, is not to be held as long as the stream.
        del generation
        async with aclosing(viewer.view(generation_id, after=cursor, access=access)) as events:
            async for event in events:
                if isinstance(event, viewer.End):
                    event_type, data = await offload(_ending, presentation, event.generation, language)
                    yield sse.frame(event_type, data, event_id=name(event.cursor))
                    if event.generation.status == Generation.Status.COMPLETED:
                        when_ended()
                else:
                    yield frame_of(event, generation_id, name, text_event=presentation.text_event)


def frame_of(
    event: viewer.Growth,
    generation_id: uuid.UUID,
    name: Callable[[Cursor], str],
    *,
    text_event: str = "token",
    marks: EventData | None = None,
) -> bytes:
    """Give what a client sees of an event before the end; `marks` go into the data of each."""
    marks = marks or {}
    match event:
        case viewer.Text() if not marks:
            return sse.text_frame(text_event, event.text, event_id=name(event.cursor))
        case viewer.Text():
            return sse.frame(text_event, {**marks, "token": event.text}, event_id=name(event.cursor))
        case viewer.Silence():
            return sse.COMMENT
        case viewer.Reset():
            withdrawn = {**marks, "generation_id": str(generation_id), "reason": "taken_over"}
            return sse.frame("reset", withdrawn, event_id=name(event.cursor))
        case viewer.Reconnect():
            left = {**marks, "generation_id": str(generation_id)}
            return sse.frame("reconnect", left, event_id=name(event.cursor))


def _ending(presentation: Presentation, generation: Generation, language: str) -> tuple[str, EventData]:
    if generation.status == Generation.Status.COMPLETED:
        return presentation.closing(generation)
    fault = FAULTS[generation.fault]
    with translation.override(language):
        messages = in_both_languages(fault.message)
    return "error", {
        "code": generation.fault,
        **messages,
        "retryable": fault.retryable,
        "generation_id": str(generation.pk),
    }


def begin(generation: Generation) -> None:
    """Have a text written if it is not yet; does not wait for it."""
    if not generation.is_final:
        async_to_sync(_ensure)(generation.pk)


async def _ensure(generation_id: uuid.UUID) -> None:
    producer.ensure(generation_id)


def complete(generation: Generation) -> Generation:
    """Have a text written to its end while the caller waits, for clients that do not stream.

    Raises:
        Problem: with the fault's code when it could not be had; 502, 503 or 429 as FAULTS says; 503 where as many
            wait as can.
    """
    connections.close_all()  # the thread is held while it waits, its connection need not be
    ended = async_to_sync(_wait_for_end)(generation)
    if ended is None:
        raise Problem(FAULTS["interrupted"].message, code="interrupted", status=503, retry_after=2)
    if ended.status != Generation.Status.COMPLETED:
        fault = FAULTS[ended.fault]
        wait = {503: 5, 429: budget.seconds_until_tomorrow()}.get(fault.status)
        raise Problem(fault.message, code=ended.fault, status=fault.status, retry_after=wait)
    return ended


async def _wait_for_end(generation: Generation) -> Generation | None:
    if not generation.is_final:
        refuse_if_full(generation.user_id)
        if _waiting.total() >= MOST_WAITING:
            raise too_many()
    with counted(generation.user_id, among=_waiting):
        return await viewer.wait_for_end(generation.pk)
