from django.urls import path

from professions import api, streams

urlpatterns = [
    path("api/professions", api.ProfessionList.as_view(), name="api_professions"),
    path("api/professions/<int:pk>", api.ProfessionDetail.as_view(), name="api_profession"),
    path("api/variants/stream", streams.variants_stream, name="api_variants_stream"),
]
