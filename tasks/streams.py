"""The learner API as streams: plain asynchronous Django views, because a stream is no DRF response."""

import logging
from collections.abc import Callable

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import get_language

from accounts.current import asigned_in, refuse_cross_site
from accounts.models import User
from generation import sse, streams
from generation.models import Generation
from generation.process import process_of
from tasks import assessing, presentation, running
from tasks.models import Task
from tasks.serializers import AnswerSerializer
from web.problems import json_body, json_view

logger = logging.getLogger("tasks.streams")


@json_view("GET")
async def get_current_task_stream(request: HttpRequest, profession_id: int) -> HttpResponseBase:
    user = await asigned_in(request)
    refuse_cross_site(request)
    if request.method == "HEAD":
        await sync_to_async(running.profession_for)(user, profession_id)
        return sse.headers_of_a_stream()
    with process_of(request).places.take(user.pk) as place:
        generation = await sync_to_async(_current)(request, user, profession_id, get_language())
        log_end = _log_start("get_current_task_stream", generation, user=user, profession_id=profession_id)
        return await streams.respond(request, generation, place=place, when_ended=log_end)


def _current(request: HttpRequest, user: User, profession_id: int, language: str) -> Generation:
    profession = running.profession_for(user, profession_id)
    simulation = running.open_simulation(user=user, profession=profession, language=language)
    return _wanted(request, simulation.current_text)


def _wanted(request: HttpRequest, generation: Generation) -> Generation:
    """Retry a failed text, but not for a client that comes back with a cursor: that one resumes."""
    if streams.requested_cursor(request, generation) is not None:
        return generation
    return running.go_on(generation)


@json_view("POST")
async def submit_task_answer_stream(request: HttpRequest, task_id: int) -> HttpResponseBase:
    user = await asigned_in(request)
    with process_of(request).places.take(user.pk) as place:
        form = AnswerSerializer(data=json_body(request))
        form.is_valid(raise_exception=True)
        answer = form.validated_data["answer"]
        hold = request.GET.get("hold") == "1"
        generation, profession_id, marking = await sync_to_async(_submit)(request, user, task_id, answer, hold=hold)
        supervisor = process_of(request).supervisor
        if marking is not None:
            supervisor.ensure(marking.pk)
        log_end = _log_start("submit_task_answer_stream", generation, user=user, profession_id=profession_id)
        if hold:
            supervisor.ensure(generation.pk)
            events = await sync_to_async(presentation.held_events)(generation)
            log_end()
            return streams.respond_with(request, events, number=generation.pk.int >> 80)
        return await streams.respond(request, generation, place=place, when_ended=log_end)


def _submit(
    request: HttpRequest, user: User, task_id: int, answer: str, *, hold: bool
) -> tuple[Generation, int, Generation | None]:
    generation = running.submit(user=user, task_id=task_id, answer=answer, hold=hold)
    profession_id = Task.objects.values_list("simulation__profession", flat=True).get(pk=task_id)
    wanted = generation if hold else _wanted(request, generation)
    return wanted, profession_id, assessing.pending_text(task_id)


@json_view("GET")
async def get_assessment_stream(request: HttpRequest, task_id: int) -> HttpResponseBase:
    user = await asigned_in(request)
    refuse_cross_site(request)
    with process_of(request).places.take(user.pk) as place:
        assessment = await sync_to_async(assessing.in_force)(user, task_id)
        if assessment.generation is not None:
            return await streams.respond(request, assessment.generation, place=place)
        events = await sync_to_async(presentation.assessment_events)(assessment)
        return streams.respond_with(request, events, number=assessment.pk)


def _log_start(name: str, generation: Generation, *, user: User, profession_id: int) -> Callable[[], None]:
    """Log that a stream begins, and return what logs that it was sent to its end."""
    who = (user.pk, profession_id, generation.pk)
    logger.info("[STREAMING] " + name + " START for user %s, profession %s generation=%s", *who)  # noqa: G003  # a fixed name

    def log_end() -> None:
        logger.info("[STREAMING] Stream completed for user %s, profession %s generation=%s", *who)

    return log_end
