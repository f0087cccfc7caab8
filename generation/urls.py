from django.urls import path

from generation import api

urlpatterns = [
    path("api/generations/<uuid:pk>", api.GenerationDetail.as_view(), name="api_generation"),
    path("api/generations/<uuid:pk>/stream", api.generation_stream, name="api_generation_stream"),
    path("api/generations/<uuid:pk>/cancel", api.GenerationCancel.as_view(), name="api_generation_cancel"),
]
