"""The learner API that answers whole. Its streamed twins are in streams.py."""

from collections.abc import Callable

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils.translation import get_language
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.current import refuse_cross_site, signed_in
from generation import streams
from generation.api import GenerationSerializer
from generation.kinds import EventData
from generation.models import Generation
from generation.places import Place
from generation.process import process_of
from tasks import assessing, presentation, running
from tasks.models import Simulation
from tasks.serializers import (
    AnswerSerializer,
    AssessmentSerializer,
    FinishedSerializer,
    NewSimulationSerializer,
    NextTaskSerializer,
    OwnMarksSerializer,
    ReviewSerializer,
    SimulationDetailSerializer,
    SimulationSerializer,
    TaskSerializer,
)
from web.problems import json_body


class CurrentTask(APIView):
    """The learner's current task with its whole text, or the final report behind the last task.

    Starts a simulation if none is open. Answers when the text is complete, or as far as its learner wanted it; 502
    when it could not be generated, and asking again tries again.
    """

    @extend_schema(
        responses=PolymorphicProxySerializer(
            component_name="CurrentTaskOrReport",
            serializers=[TaskSerializer, FinishedSerializer],
            resource_type_field_name=None,
        )
    )
    def get(self, request: Request, profession_id: int) -> HttpResponse:
        refuse_cross_site(request)
        user = signed_in(request)
        with process_of(request).places.take(user.pk) as place:
            profession = running.profession_for(user, profession_id)
            simulation = running.open_simulation(user=user, profession=profession, language=get_language())
            generation = running.go_on(simulation.current_text)
            return _answer(generation, presentation.current, place)

    @extend_schema(exclude=True)
    def head(self, request: Request, profession_id: int) -> HttpResponse:
        """Answer without a task: getting one starts a simulation and a clock, and may cost a text."""
        refuse_cross_site(request)
        running.profession_for(signed_in(request), profession_id)
        return HttpResponse(content_type="application/json")


class SubmitAnswer(APIView):
    """Hand in the answer to the current task; answers with the next task or the final report, whole.

    The answer is stored before anything else happens. Handing in the same answer again gives the same result;
    another one gets 409.
    """

    @extend_schema(
        request=AnswerSerializer,
        responses=PolymorphicProxySerializer(
            component_name="NextTaskOrReport",
            serializers=[NextTaskSerializer, FinishedSerializer],
            resource_type_field_name=None,
        ),
    )
    def post(self, request: Request, task_id: int) -> HttpResponse:
        user = signed_in(request)
        with process_of(request).places.take(user.pk) as place:
            form = AnswerSerializer(data=json_body(request))
            form.is_valid(raise_exception=True)
            generation = running.submit(user=user, task_id=task_id, answer=form.validated_data["answer"])
            begin_marking(request, task_id)
            return _answer(running.retry_if_failed(generation), presentation.submitted, place)


def _answer(
    generation: Generation, present: Callable[[Generation], EventData], place: Place
) -> Response | streams.WhenComplete:
    """Answer with a text when it is complete, or as far as its learner wanted it."""
    if generation.was_stopped and presentation.is_task(generation):
        return Response(present(generation))
    return streams.WhenComplete(generation, present, place=place)


def begin_marking(request: Request, task_id: int) -> None:
    """Have the marks of an answer written that was handed in, and do not wait for them."""
    if (marking := assessing.pending_text(task_id)) is not None:
        streams.begin(request, marking)


class AssessmentDetail(APIView):
    """The assessment in force of an answer; a learner's own marks, where no model marks."""

    @extend_schema(responses=AssessmentSerializer)
    def get(self, request: Request, task_id: int) -> Response:
        refuse_cross_site(request)
        found = assessing.in_force(signed_in(request), task_id)
        begin_marking(request, task_id)
        return Response(presentation.assessment(found))

    @extend_schema(request=OwnMarksSerializer, responses=AssessmentSerializer)
    def put(self, request: Request, task_id: int) -> Response:
        user = signed_in(request)
        form = OwnMarksSerializer(data=json_body(request))
        form.is_valid(raise_exception=True)
        points = {mark["criterion"]: mark["points"] for mark in form.validated_data["marks"]}
        return Response(presentation.assessment(assessing.mark_oneself(user, task_id, points)))


class AssessmentRetry(APIView):
    """Mark an answer again that is not marked."""

    @extend_schema(request=None, responses=AssessmentSerializer)
    def post(self, request: Request, task_id: int) -> Response:
        found = assessing.retry(signed_in(request), task_id)
        begin_marking(request, task_id)
        return Response(presentation.assessment(found))


class ReviewRequest(APIView):
    """Ask a person to look at how an answer was marked, once for each task."""

    @extend_schema(request=ReviewSerializer, responses={201: AssessmentSerializer})
    def post(self, request: Request, task_id: int) -> Response:
        user = signed_in(request)
        form = ReviewSerializer(data=json_body(request))
        form.is_valid(raise_exception=True)
        found = assessing.ask_for_review(user, task_id, form.validated_data["reason"])
        return Response(presentation.assessment(found), status=status.HTTP_201_CREATED)


class Rewrite(APIView):
    """Write the current text of a simulation again, a task or the report, that failed or was stopped.

    The clock of a task begins anew with its new text. What was stopped is kept until somebody asks for this.
    """

    @extend_schema(request=None, responses=GenerationSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return Response(GenerationSerializer(running.rewrite(user=signed_in(request), simulation_id=pk)).data)


class SimulationList(generics.ListCreateAPIView[Simulation]):
    """The learner's own simulations, newest first; POST starts a fresh one and keeps the earlier in the history."""

    serializer_class = SimulationSerializer

    def get_queryset(self) -> QuerySet[Simulation]:
        return Simulation.objects.visible_to(signed_in(self.request)).with_progress()

    @extend_schema(request=NewSimulationSerializer, responses={201: SimulationDetailSerializer})
    def post(self, request: Request, *args: object, **kwargs: object) -> Response:
        form = NewSimulationSerializer(data=json_body(request))
        form.is_valid(raise_exception=True)
        simulation = running.start_afresh(
            user=signed_in(request),
            profession=running.profession_for(signed_in(request), form.validated_data["profession_id"]),
            language=form.validated_data.get("language") or get_language(),
        )
        return Response(SimulationDetailSerializer(simulation).data, status=status.HTTP_201_CREATED)


class SimulationDetail(generics.RetrieveAPIView[Simulation]):
    """One simulation with its tasks, answers and, when it is finished, its report."""

    serializer_class = SimulationDetailSerializer

    def get_queryset(self) -> QuerySet[Simulation]:
        return Simulation.objects.visible_to(signed_in(self.request)).with_everything()
