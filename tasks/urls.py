from django.urls import path

from generation.streams import waits
from tasks import api, streams, views

urlpatterns = [
    path("", views.catalogue, name="catalogue"),
    path("professions/<slug:slug>", views.profession, name="profession"),
    path("professions/<slug:slug>/start", views.start, name="start"),
    path("simulations", views.simulations, name="simulations"),
    path("simulations/<int:pk>", views.simulation, name="simulation"),
    path("simulations/<int:pk>/report", views.report, name="report"),
    path("simulations/<int:pk>/rewrite", views.rewrite, name="rewrite"),
    path("tasks/<int:pk>/answer", views.answer, name="answer"),
    path("tasks/<int:pk>/debrief", views.debrief, name="debrief"),
    path("tasks/<int:pk>/marks", views.mark_oneself, name="mark_oneself"),
    path("tasks/<int:pk>/mark-again", views.mark_again, name="mark_again"),
    path("tasks/<int:pk>/review", views.ask_for_review, name="ask_for_review"),
    path("api/tasks/profession/<int:profession_id>/current", waits(api.CurrentTask.as_view()), name="api_current"),
    path(
        "api/tasks/profession/<int:profession_id>/current/stream",
        streams.get_current_task_stream,
        name="api_current_stream",
    ),
    path("api/tasks/<int:task_id>/submit", waits(api.SubmitAnswer.as_view()), name="api_submit"),
    path("api/tasks/<int:task_id>/submit/stream", streams.submit_task_answer_stream, name="api_submit_stream"),
    path("api/tasks/<int:task_id>/assessment", api.AssessmentDetail.as_view(), name="api_assessment"),
    path("api/tasks/<int:task_id>/assessment/stream", streams.get_assessment_stream, name="api_assessment_stream"),
    path("api/tasks/<int:task_id>/assessment/retry", api.AssessmentRetry.as_view(), name="api_assessment_retry"),
    path("api/tasks/<int:task_id>/review", api.ReviewRequest.as_view(), name="api_review"),
    path("api/simulations", api.SimulationList.as_view(), name="api_simulations"),
    path("api/simulations/<int:pk>", api.SimulationDetail.as_view(), name="api_simulation"),
    path("api/simulations/<int:pk>/rewrite", api.Rewrite.as_view(), name="api_rewrite"),
]
