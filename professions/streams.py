"""Variants as one stream: the events of up to four texts, each with the number of its column."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponseBase
from django.utils import translation
from rest_framework import serializers

from accounts import second_factor
from accounts.access import Access, access_of
from accounts.current import asigned_in
from accounts.models import User
from generation import sse, streams, viewer
from generation.cursor import START, event_namer
from generation.kinds import EventData
from generation.models import Generation
from generation.offload import offload
from generation.places import Place
from generation.process import Process, process_of
from generation.upstream.faults import FAULTS
from professions import variants
from professions.kinds import VariantEvents
from professions.models import Brief, Variant
from web.fields import IdField, StrictCharField
from web.problems import FORBIDDEN, Problem, in_both_languages, json_body, json_view

logger = logging.getLogger("professions.streams")

_EVENTS = VariantEvents()


class VariantsSerializer(serializers.Serializer[None]):
    brief_id = IdField()
    models = serializers.ListField(
        child=StrictCharField(max_length=120), required=False, max_length=variants.MOST_VARIANTS
    )


@json_view("POST")
async def variants_stream(request: HttpRequest) -> HttpResponseBase:
    user = await asigned_in(request)
    form = VariantsSerializer(data=json_body(request))
    form.is_valid(raise_exception=True)
    await sync_to_async(_insist_on_author)(request, user)
    wanted = form.validated_data
    brief = await _brief(wanted["brief_id"])
    process = process_of(request)
    with process.places.take(user.pk) as place:
        begun = await sync_to_async(variants.begin)(brief, models=wanted.get("models", ()), staff=user)
        access = await access_of(request)
        columns = Columns(process, begun, access=access, language=translation.get_language())
        response = sse.stream_response(columns.frames(place))
        place.keep_for(response)
        return response


def _insist_on_author(request: HttpRequest, user: User) -> None:
    second_factor.require(request)
    if not user.is_staff or not user.has_perm("professions.change_brief"):
        raise Problem(FORBIDDEN, code="forbidden", status=403)


async def _brief(pk: int) -> Brief:
    brief = await Brief.objects.select_related("profession").filter(pk=pk).afirst()
    if brief is None:
        raise Http404
    return brief


class Columns:
    """Several variants being followed side by side."""

    def __init__(self, process: Process, variants: Sequence[Variant], *, access: Access, language: str) -> None:
        self._process = process
        self._variants = variants
        self._access = access
        self._language = language
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def frames(self, place: Place) -> AsyncGenerator[bytes, None]:
        """Yield the frames of all variants as they come; ends when the last of them has ended."""
        try:
            await sse.release_request_resources()
            yield sse.OPENING
            async with aclosing(self._merged()) as frames:
                async for frame in frames:
                    yield frame
        finally:
            place.release()

    async def _merged(self) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        # A context of their own: the request's holds an executor that is shut down.
        columns = [loop.create_task(self._follow(variant), context=contextvars.Context()) for variant in self._variants]
        try:
            for _ in columns:
                while (frame := await self._frames.get()) is not None:
                    yield frame
            await asyncio.gather(*columns)
        finally:
            for column in columns:
                column.cancel()
            await asyncio.gather(*columns, return_exceptions=True)

    async def _follow(self, variant: Variant) -> None:
        """Put a variant's frames into the queue, and None behind the last."""
        try:
            async for frame in self._frames_of(variant):
                self._frames.put_nowait(frame)
        finally:
            self._frames.put_nowait(None)

    async def _frames_of(self, variant: Variant) -> AsyncGenerator[bytes, None]:
        generation = variant.generation
        name = event_namer(generation.pk)
        column: EventData = {"variant": variant.number}
        about: EventData = {**column, "generation_id": str(generation.pk)}
        cursor = START
        yield sse.frame("metadata", {**about, **(_EVENTS.opening(generation) or {})}, event_id=name(cursor))
        try:
            async with aclosing(viewer.view(self._process, generation.pk, after=START, access=self._access)) as events:
                async for event in events:
                    cursor = event.cursor
                    if isinstance(event, viewer.StreamEnd):
                        event_type, data = await offload(_ending, event.generation, self._language)
                        yield sse.frame(event_type, {**about, **data}, event_id=name(cursor))
                    else:
                        yield streams.frame_of(event, generation.pk, name, fields=column)
        except DatabaseError:
            logger.exception("column ends generation=%s", generation.pk)
            data = _variant_error("database_unavailable", self._language)
            yield sse.frame("variantError", {**about, **data}, event_id=name(cursor))


def _ending(generation: Generation, language: str) -> tuple[str, EventData]:
    if generation.status == Generation.Status.COMPLETED:
        return _EVENTS.closing(generation)
    return "variantError", _variant_error(generation.fault, language)


def _variant_error(code: str, language: str) -> EventData:
    with translation.override(language):
        return {"code": code, **in_both_languages(FAULTS[code].message)}
