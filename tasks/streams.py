"""The learner API as streams: plain asynchronous Django views, because a stream is no DRF response."""

import logging

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import get_language

from accounts.current import asigned_in
from accounts.models import User
from generation import streams
from generation.models import Generation
from simulator.problems import json_body, json_view
from tasks import running
from tasks.models import Task
from tasks.requests import refuse_cross_site
from tasks.serializers import AnswerSerializer

logger = logging.getLogger("tasks.streams")


@json_view("GET")
async def get_current_task_stream(request: HttpRequest, profession_id: int) -> HttpResponseBase:
    user = await asigned_in(request)
    refuse_cross_site(request)
    # A client that comes back with a cursor resumes; only one that comes without asks for a failed text to be
    # written again.
    resumes = streams.requested_cursor(request) is not None
    generation = await sync_to_async(_current)(user, profession_id, get_language(), resumes=resumes)
    return await _stream(request, generation, "get_current_task_stream", user=user, profession_id=profession_id)


def _current(user: User, profession_id: int, language: str, *, resumes: bool) -> Generation:
    profession = running.profession_for(user, profession_id)
    simulation = running.open_simulation(user=user, profession=profession, language=language)
    return simulation.current_text if resumes else running.wanted_text(simulation)


@json_view("POST")
async def submit_task_answer_stream(request: HttpRequest, task_id: int) -> HttpResponseBase:
    user = await asigned_in(request)
    form = AnswerSerializer(data=json_body(request))
    form.is_valid(raise_exception=True)
    resumes = streams.requested_cursor(request) is not None
    generation, profession_id = await sync_to_async(_submit)(
        user, task_id, form.validated_data["answer"], resumes=resumes
    )
    return await _stream(request, generation, "submit_task_answer_stream", user=user, profession_id=profession_id)


def _submit(user: User, task_id: int, answer: str, *, resumes: bool) -> tuple[Generation, int]:
    generation = running.submit(user=user, task_id=task_id, answer=answer)
    profession_id = Task.objects.values_list("simulation__profession", flat=True).get(pk=task_id)
    return (generation if resumes else running.again_if_failed(generation)), profession_id


async def _stream(
    request: HttpRequest, generation: Generation, name: str, *, user: User, profession_id: int
) -> HttpResponseBase:
    who = (user.pk, profession_id, generation.pk)
    logger.info("[STREAMING] " + name + " START for user %s, profession %s generation=%s", *who)  # noqa: G003  # a fixed name

    def log_end() -> None:
        logger.info("[STREAMING] Stream completed for user %s, profession %s generation=%s", *who)

    return await streams.respond(request, generation, when_ended=log_end)
