"""A generation as a stream of events for a client.

What the text is for decides what its events carry: see generation/kinds.py.
"""

import functools
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Concatenate, ParamSpec

from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import translation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from accounts.access import Access, access_of
from generation import budget, sse, viewer
from generation.cursor import START, Cursor, event_namer, parse_event_id, parse_named
from generation.kinds import EventData, Events, StructuredEvents, kind_of
from generation.models import Generation
from generation.offload import offload
from generation.places import Place
from generation.process import Process, process_of
from generation.upstream.faults import FAULTS
from web.problems import Problem, as_json, in_both_languages

logger = logging.getLogger("generation.streams")

P = ParamSpec("P")


def requested_cursor(request: HttpRequest, generation: Generation) -> Cursor | None:
    """Return where in this generation a client says it was: `Last-Event-ID`, which browsers send, or `?after=`."""
    value = request.headers.get("Last-Event-ID") or request.GET.get("after")
    return parse_event_id(value, generation.pk) if value else None


def respond_with(request: HttpRequest, events: Sequence[tuple[str, EventData]], *, number: int) -> HttpResponseBase:
    """Answer with events that are known already, behind the request's cursor; 204 when there are none left.

    Args:
        number: tells cursors of these events from those of others, and changes when the events do.
    """
    name = f"{number:012x}"
    value = request.headers.get("Last-Event-ID") or request.GET.get("after")
    cursor = parse_named(value, name) if value else None
    seen = cursor.seq if cursor is not None else 0
    if seen >= len(events):
        return HttpResponse(status=204)
    if request.method == "HEAD":
        return sse.headers_of_a_stream()
    frames = [
        sse.frame(event_type, data, event_id=f"{name}-0-{place}")
        for place, (event_type, data) in enumerate(events[seen:], start=seen + 1)
    ]

    async def told() -> AsyncGenerator[bytes, None]:
        await sse.release_request_resources()
        yield sse.OPENING
        for frame in frames:
            yield frame

    return sse.stream_response(told())


async def respond(
    request: HttpRequest, generation: Generation, *, place: Place, when_ended: Callable[[], None] = lambda: None
) -> HttpResponseBase:
    """Answer with the events of a generation behind the request's cursor; 204 when there are none left.

    Args:
        place: kept for as long as the stream is open.
        when_ended: called when a complete text was sent to its end, not when the client left before.
    """
    cursor = requested_cursor(request, generation)
    if cursor is not None and viewer.has_seen_everything(generation, after=cursor):
        return HttpResponse(status=204)
    if request.method == "HEAD":
        return sse.headers_of_a_stream()
    language = translation.get_language()
    access = await access_of(request)
    response = sse.stream_response(
        _frames(
            process_of(request),
            generation,
            cursor,
            place=place,
            access=access,
            language=language,
            when_ended=when_ended,
        )
    )
    place.keep_for(response)
    return response


async def _frames(
    process: Process,
    generation: Generation,
    cursor: Cursor | None,
    *,
    place: Place,
    access: Access,
    language: str,
    when_ended: Callable[[], None],
) -> AsyncGenerator[bytes, None]:
    looks = kind_of(generation).events()
    generation_id = generation.pk
    name = event_namer(generation_id)
    try:
        await sse.release_request_resources()
        yield sse.OPENING
        if cursor is None:
            cursor = START
            opening = await offload(looks.opening, generation)
            if opening is not None:
                yield sse.frame("metadata", opening, event_id=name(cursor))
            del opening
        structured = None
        if isinstance(looks, StructuredEvents):
            await offload(looks.prepare, generation)
            structured = _Structured(looks, generation_id, name, after=cursor)
        # What was read to answer the request, the whole simulation perhaps, is not to be held as long as the stream.
        del generation
        behind = START if structured is not None else cursor
        async with aclosing(viewer.view(process, generation_id, after=behind, access=access)) as events:
            async for event in events:
                if isinstance(event, viewer.StreamEnd):
                    event_type, data = await offload(_ending, looks, event.generation, language)
                    yield sse.frame(event_type, data, event_id=name(event.cursor))
                    if event.generation.status == Generation.Status.COMPLETED:
                        when_ended()
                elif structured is not None:
                    cursor = event.cursor
                    for frame in structured.frames(event):
                        yield frame
                else:
                    cursor = event.cursor
                    yield frame_of(event, generation_id, name, text_event=looks.text_event)
    except DatabaseError:
        logger.exception("stream ends generation=%s", generation_id)
        data = error_data("database_unavailable", generation_id, language)
        yield sse.frame("error", data, event_id=name(cursor or START))
    finally:
        place.release()


class _Structured:
    """What a client sees of a structured text: it is read from its beginning, and shown behind the client's cursor."""

    def __init__(
        self, looks: StructuredEvents, generation_id: uuid.UUID, name: Callable[[Cursor], str], *, after: Cursor
    ) -> None:
        self.looks = looks
        self.generation_id = generation_id
        self.name = name
        self.shown = after
        self.text = ""

    def frames(self, event: viewer.Growth) -> Iterator[bytes]:
        if isinstance(event, viewer.Reset):
            self.text = ""
        if self.shown.seq and event.cursor.epoch > self.shown.epoch:
            self.shown = Cursor(event.cursor.epoch, 0)
            yield frame_of(viewer.Reset(self.shown), self.generation_id, self.name)
        if isinstance(event, viewer.Text):
            self.text += event.text
            yield from self._parts(event.cursor.epoch)
        elif not isinstance(event, viewer.Reset):
            yield frame_of(event, self.generation_id, lambda _: self.name(self.shown))

    def _parts(self, epoch: int) -> Iterator[bytes]:
        for end, event_type, data in self.looks.parts(self.text):
            if (epoch, end) > (self.shown.epoch, self.shown.seq):
                self.shown = Cursor(epoch, end)
                yield sse.frame(event_type, data, event_id=self.name(self.shown))


def frame_of(
    event: viewer.Growth,
    generation_id: uuid.UUID,
    name: Callable[[Cursor], str],
    *,
    text_event: str = "token",
    fields: EventData | None = None,
) -> bytes:
    """Return what a client sees of an event before the end; `fields` go into the data of each."""
    fields = fields or {}
    match event:
        case viewer.Text() if not fields:
            return sse.text_frame(text_event, event.text, event_id=name(event.cursor))
        case viewer.Text():
            return sse.frame(text_event, {**fields, "token": event.text}, event_id=name(event.cursor))
        case viewer.Heartbeat():
            return sse.COMMENT
        case viewer.Reset():
            withdrawn = {**fields, "generation_id": str(generation_id), "reason": "taken_over"}
            return sse.frame("reset", withdrawn, event_id=name(event.cursor))
        case viewer.Reconnect():
            left = {**fields, "generation_id": str(generation_id)}
            return sse.frame("reconnect", left, event_id=name(event.cursor))


def _ending(looks: Events, generation: Generation, language: str) -> tuple[str, EventData]:
    if generation.status == Generation.Status.COMPLETED:
        return looks.closing(generation)
    if isinstance(looks, StructuredEvents) and (told := looks.failed(generation)) is not None:
        return told
    return "error", error_data(generation.fault, generation.pk, language)


def error_data(code: str, generation_id: uuid.UUID, language: str) -> EventData:
    """Return the data of an `error` event; `code` is a key of FAULTS."""
    fault = FAULTS[code]
    with translation.override(language):
        messages = in_both_languages(fault.message)
    return {"code": code, **messages, "retryable": fault.retryable, "generation_id": str(generation_id)}


def begin(request: HttpRequest | Request, generation: Generation) -> None:
    """Start writing a text if it is not yet written, and do not wait for it."""
    if not generation.is_final:
        async_to_sync(_ensure)(process_of(request), generation.pk)


async def _ensure(process: Process, generation_id: uuid.UUID) -> None:
    process.supervisor.ensure(generation_id)


class WhenComplete(HttpResponse):
    """What a view returns that answers with a text when it is complete; to be filled in by `waits`.

    Args:
        present: makes the answer's data of the complete text; may use the database.
        place: kept for as long as the client waits.
    """

    def __init__(
        self, generation: Generation, present: Callable[[Generation], Mapping[str, object]], *, place: Place
    ) -> None:
        super().__init__(content_type="application/json")
        self.generation = generation
        self.present = present
        self.place = place
        place.keep_for(self)


def waits(
    view: Callable[Concatenate[HttpRequest, P], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, P], Coroutine[object, object, HttpResponseBase]]:
    """Let a synchronous view return `WhenComplete`: waiting for the text holds neither a thread nor a connection.

    The answer is 502, 503 or 429, as FAULTS says, when the text could not be generated.
    """

    @functools.wraps(view)
    async def answered(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        response = await sync_to_async(view)(request, *args, **kwargs)
        if not isinstance(response, WhenComplete):
            return response
        try:
            await sse.release_request_resources()
            await _complete(process_of(request), response)
        except Problem as problem:
            return as_json(problem)
        finally:
            response.place.release()
        return response

    return answered


async def _complete(process: Process, response: WhenComplete) -> None:
    """Wait for the text of a response and fill it in. Raises Problem when there is none."""
    generation: Generation | None = response.generation
    if not response.generation.is_final:
        generation = await viewer.wait_for_end(process, response.generation.pk)
    if generation is None:
        raise Problem(FAULTS["interrupted"].message, code="interrupted", status=503, retry_after=2)
    if generation.status != Generation.Status.COMPLETED:
        fault = FAULTS[generation.fault]
        wait = {503: 5, 429: budget.seconds_until_tomorrow()}.get(fault.status)
        raise Problem(fault.message, code=generation.fault, status=fault.status, retry_after=wait)
    response.content = await offload(_rendered, generation, response.present, translation.get_language())


def _rendered(generation: Generation, present: Callable[[Generation], Mapping[str, object]], language: str) -> bytes:
    with translation.override(language):
        rendered: bytes = JSONRenderer().render(present(generation))
    return rendered
