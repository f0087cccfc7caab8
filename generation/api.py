"""Generations over HTTP: the stored row, always; its stream; its cancel."""

import uuid

from asgiref.sync import async_to_sync
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponseBase
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.generics import RetrieveAPIView, get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.current import asigned_in, refuse_cross_site, signed_in
from generation import streams
from generation.kinds import is_structured
from generation.models import Attempt, Generation
from generation.process import process_of
from web.problems import json_view


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """What a person may know of a try: neither key nor the provider's own words."""

    class Meta:
        model = Attempt
        fields = [
            "epoch",
            "number",
            "provider",
            "model",
            "is_hedge",
            "outcome",
            "fault",
            "started_at",
            "first_token_seconds",
            "seconds",
            "prompt_tokens",
            "completion_tokens",
            "cached_tokens",
            "tokens_estimated",
        ]
        read_only_fields = fields


class GenerationSerializer(serializers.ModelSerializer[Generation]):
    authored_because = serializers.ChoiceField(Generation.AuthoredBecause.choices, allow_blank=True)
    text = serializers.SerializerMethodField(help_text="Empty for one that is shown in parts, such as marks.")
    attempts = serializers.SerializerMethodField()

    def get_text(self, generation: Generation) -> str:
        return "" if is_structured(generation) else generation.text

    @extend_schema_field(AttemptSerializer(many=True))
    def get_attempts(self, generation: Generation) -> object:
        return AttemptSerializer(generation.attempts.order_by("epoch", "number"), many=True).data

    class Meta:
        model = Generation
        fields = [
            "id",
            "kind",
            "status",
            "source",
            "authored_because",
            "text",
            "model",
            "fault",
            "finish_reason",
            "prompt_tokens",
            "completion_tokens",
            "created_at",
            "started_at",
            "first_token_at",
            "finished_at",
            "attempts",
        ]
        read_only_fields = fields


class GenerationDetail(RetrieveAPIView[Generation]):
    """One generation as it is stored, whatever became of the connection that asked for it."""

    serializer_class = GenerationSerializer

    def get_object(self) -> Generation:
        return get_object_or_404(
            Generation.objects.without_prompts().visible_to(signed_in(self.request)), pk=self.kwargs["pk"]
        )


class GenerationCancel(APIView):
    """Stop a generation. What was written is kept; stopping one that has ended changes nothing."""

    @extend_schema(request=None, responses=GenerationSerializer)
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        generation = get_object_or_404(Generation.objects.without_prompts().visible_to(signed_in(request)), pk=pk)
        # Cancelling needs a connection of its own, and this one would stay taken meanwhile.
        connections.close_all()
        async_to_sync(process_of(request).supervisor.cancel)(generation.pk)
        generation.refresh_from_db()
        return Response(GenerationSerializer(generation).data)


@json_view("GET")
async def generation_stream(request: HttpRequest, pk: uuid.UUID) -> HttpResponseBase:
    user = await asigned_in(request)
    refuse_cross_site(request)
    generation = await Generation.objects.without_prompts().visible_to(user).filter(pk=pk).afirst()
    if generation is None:
        raise Http404
    with process_of(request).places.take(user.pk) as place:
        return await streams.respond(request, generation, place=place)
