from django.urls import path

from professions import api

urlpatterns = [
    path("api/professions", api.ProfessionList.as_view(), name="api_professions"),
    path("api/professions/<int:pk>", api.ProfessionDetail.as_view(), name="api_profession"),
]
