from collections.abc import Iterable

from django.http import Http404
from rest_framework.exceptions import NotAcceptable
from rest_framework.metadata import BaseMetadata
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class AlwaysAnswer(DefaultContentNegotiation):
    """Answers in what the client prefers, else in the first there is: an answer in JSON helps more than a 406."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        offered = list(renderers)
        try:
            renderer, _ = super().select_renderer(request, offered, format_suffix)
        except (NotAcceptable, Http404):
            renderer = offered[0]
        return renderer, renderer.media_type


class NoMetadata(BaseMetadata):
    """Leaves it at the `Allow` header: what there is to tell of an endpoint stands in the OpenAPI schema."""

    def determine_metadata(self, request: Request, view: object) -> None:
        return None
