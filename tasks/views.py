"""The learner's pages."""

from contextlib import suppress

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.current import is_cross_site, is_opened, signed_in
from accounts.guests import get_or_create_guest
from generation import streams
from generation.models import Generation
from generation.upstream.faults import FAULTS
from professions.markdown import to_html
from professions.models import Profession
from tasks import assessing, figures, presentation, running, state
from tasks.debrief import criteria_of, passages
from tasks.forms import AnswerForm
from tasks.marking.screening import is_blank
from tasks.models import Assessment, Simulation, SimulationQuerySet, Task
from web.problems import Conflict, Problem


@never_cache
@require_safe
def catalogue(request: HttpRequest) -> HttpResponse:
    own = {simulation.profession_id: simulation for simulation in _own_simulations(request).current()}
    cards = [
        {"profession": profession, "simulation": own.get(profession.pk)}
        for profession in Profession.objects.published().with_totals().filter(task_count__gt=0)
    ]
    return render(request, "tasks/catalogue.html", {"cards": cards})


def _own_simulations(request: HttpRequest) -> SimulationQuerySet:
    if not request.user.is_authenticated:
        return Simulation.objects.none()
    return Simulation.objects.visible_to(signed_in(request)).with_progress()


@never_cache
@require_safe
def profession(request: HttpRequest, slug: str) -> HttpResponse:
    found = get_object_or_404(Profession.objects.published().with_totals(), slug=slug)
    own = list(_own_simulations(request).filter(profession=found))
    context = {
        "profession": found,
        "description_html": to_html(found.description),
        "simulation": next((simulation for simulation in own if simulation.is_current), None),
        "earlier_count": sum(not simulation.is_current for simulation in own),
    }
    return render(request, "tasks/profession.html", context)


@require_POST
def start(request: HttpRequest, slug: str) -> HttpResponse:
    found = get_object_or_404(Profession.objects.published(), slug=slug)
    begin = running.start_afresh if request.POST.get("fresh") else running.open_simulation
    try:
        user = get_or_create_guest(request, before_making_a_guest=running.refuse_guests_if_spent)
        simulation = begin(user=user, profession=found, language=get_language())
    except Problem as problem:
        return _start_refused(request, found, problem)
    return redirect("simulation", pk=simulation.pk)


def _start_refused(request: HttpRequest, profession: Profession, problem: Problem) -> HttpResponse:
    """Send a stranger to the log-in, invite a guest to sign up, and tell a member why not."""
    if problem.status == 401:
        return redirect_to_login(reverse("profession", args=[profession.slug]))
    if problem.code in {"too_many_guests", "guest_budget_exhausted"}:
        context = {"profession": profession, "message": problem.message}
        response = render(request, "tasks/start_refused.html", context, status=problem.status)
        response["Retry-After"] = str(problem.retry_after)
        return response
    messages.error(request, str(problem.message))
    return redirect("profession", slug=profession.slug)


@never_cache
@require_safe
@login_required
def simulation(request: HttpRequest, pk: int) -> HttpResponse:
    found = running.find(signed_in(request), pk=pk)
    if found.report is not None:
        return redirect("report", pk=pk)
    task = found.current_task
    if is_opened(request) and not is_cross_site(request):
        running.stop_waiting(task.generation)
    _begin_if_read(request, task.generation)
    if is_opened(request):
        task.start_clock()
    context = {
        "simulation": found,
        "task": task,
        "generation": task.generation,
        "question_html": to_html(task.question),
        "seconds_left": task.seconds_left,
        "state": state.of_simulation(found, before=task.order).shown(),
        "earlier": [_shown(earlier) for earlier in found.ordered_tasks[:-1]],
        "error_message": _error_message(task.generation),
        "can_answer": found.is_current and task.can_be_answered,
        "refresh_seconds": _refresh_seconds(request),
    }
    return render(request, "tasks/simulation.html", context)


@never_cache
@require_safe
@login_required
def report(request: HttpRequest, pk: int) -> HttpResponse:
    found = running.find(signed_in(request), pk=pk)
    if found.report is None:
        return redirect("simulation", pk=pk)
    _begin_if_read(request, found.report)
    context = {
        "simulation": found,
        "profession": found.profession,
        "generation": found.report,
        "report_html": to_html(found.report.text),
        "tasks": _report_tasks(found),
        "figures": figures.of_simulation(found),
        "error_message": _error_message(found.report),
        "refresh_seconds": _refresh_seconds(request),
    }
    return render(request, "tasks/report.html", context)


def _report_tasks(simulation: Simulation) -> list[dict[str, object]]:
    own = Assessment.objects.in_force().with_marks().filter(submission__task__simulation=simulation)
    assessments = {one.submission_id: one for one in own}
    return [_report_task(task, assessments.get(task.submission.pk)) for task in simulation.ordered_tasks]


def _report_task(task: Task, assessment: Assessment | None) -> dict[str, object]:
    criteria = criteria_of(assessment) if assessment is not None else []
    used = figures.time_used(task)
    return {
        **_shown(task),
        "expert_html": to_html(task.brief.expert_answer),
        "assessment": assessment,
        "criteria": criteria if assessment is not None and assessment.has_marks else [],
        "passages": passages(task.submission.answer, criteria),
        "words": len(task.submission.answer.split()),
        "minutes_used": None if used is None else max(1, round(used.total_seconds() / 60)),
        "time_limit_minutes": task.time_limit_minutes,
    }


def _begin_if_read(request: HttpRequest, generation: Generation) -> None:
    """Begin the text of a page ahead of its stream; a guest's when the page looks again, as it does without JavaScript.

    A program that starts simulations as a guest is redirected to the page as well, and reads nothing.
    """
    is_read = is_opened(request) and not is_cross_site(request)
    if is_read and (not signed_in(request).is_guest or _looks_again(request)):
        streams.begin(request, generation)


def _looks_again(request: HttpRequest) -> bool:
    return "again" in request.GET


def _refresh_seconds(request: HttpRequest) -> int:
    """Return after how long a page without JavaScript looks again: at once where nothing has been begun by it."""
    return 3 if _looks_again(request) or not signed_in(request).is_guest else 0


def _shown(task: Task) -> dict[str, object]:
    return {
        "pk": task.pk,
        "order": task.order,
        "title": task.title,
        "question_html": to_html(task.question),
        "answer": task.submission.answer if task.is_submitted else "",
    }


def _error_message(generation: Generation) -> str:
    return str(FAULTS[generation.fault].message) if generation.fault else ""


@never_cache
@require_safe
@login_required
def simulations(request: HttpRequest) -> HttpResponse:
    return render(request, "tasks/simulations.html", {"simulations": _own_simulations(request)})


@require_POST
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    """Store an answer from the form itself, for browsers without JavaScript."""
    if not request.user.is_authenticated:
        # A redirect to the log-in would lose what was typed.
        ended = _("Your session has ended. Log in and hand in again what you wrote.")
        typed = {"error_message": ended, "answer": request.POST.get("answer", "")}
        return render(request, "tasks/answer_refused.html", typed, status=401)
    task = get_object_or_404(Task.objects.visible_to(signed_in(request)), pk=pk)
    form = AnswerForm(request.POST)
    if not form.is_valid():
        return render(request, "tasks/answer_refused.html", {"form": form, "task": task}, status=400)
    if is_blank(form.cleaned_data["answer"]) and "empty" not in request.POST:
        return render(request, "tasks/answer_refused.html", {"form": form, "task": task, "is_blank": True}, status=400)
    try:
        following = running.submit(user=signed_in(request), task_id=pk, answer=form.cleaned_data["answer"], hold=True)
    except Conflict as conflict:
        context = {"task": task, "error_message": conflict.message, "answer": form.cleaned_data["answer"]}
        return render(request, "tasks/answer_refused.html", context, status=conflict.status)
    if (marking := assessing.pending_text(pk)) is not None:
        streams.begin(request, marking)
    streams.begin(request, following)
    return redirect("debrief", pk=pk)


@never_cache
@require_safe
@login_required
def debrief(request: HttpRequest, pk: int) -> HttpResponse:
    """Show how an answer was marked, or is being marked, until its learner goes on."""
    task = get_object_or_404(Task.objects.visible_to(signed_in(request)).select_related("simulation"), pk=pk)
    if not task.is_submitted:
        return redirect("simulation", pk=task.simulation_id)
    return _debrief_page(request, pk)


def _debrief_page(request: HttpRequest, pk: int, *, error_message: str = "", status: int = 200) -> HttpResponse:
    assessment = assessing.in_force(signed_in(request), pk)
    if assessment.generation is not None and is_opened(request) and not is_cross_site(request):
        streams.begin(request, assessment.generation)
    task = assessment.submission.task
    simulation = running.find(signed_in(request), pk=task.simulation_id)
    criteria = criteria_of(assessment)
    following = next((one for one in simulation.ordered_tasks if one.order == task.order + 1), None)
    context = {
        "simulation": simulation,
        "task": task,
        "assessment": assessment,
        "criteria": criteria,
        "passages": passages(assessment.submission.answer, criteria),
        "shown": presentation.assessment(assessment),
        "question_html": to_html(task.question),
        "expert_html": to_html(task.brief.expert_answer),
        "following": following,
        "is_last": following is None,
        "was_review_asked": hasattr(assessment.submission, "review"),
        "error_message": error_message,
    }
    return render(request, "tasks/debrief.html", context, status=status)


@require_POST
@login_required
def mark_oneself(request: HttpRequest, pk: int) -> HttpResponse:
    """Keep the points that a learner gave themselves in the form of the debrief."""
    assessment = assessing.in_force(signed_in(request), pk)
    slugs = [criterion["slug"] for criterion in assessment.criteria]
    points = {slug: int(request.POST[slug]) for slug in slugs if request.POST.get(slug, "").isdecimal()}
    try:
        assessing.mark_oneself(signed_in(request), pk, points)
    except Problem as problem:
        return _debrief_page(request, pk, error_message=str(problem.message), status=problem.status)
    return redirect("debrief", pk=pk)


@require_POST
@login_required
def mark_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Have an answer marked again that is not marked."""
    with suppress(Conflict):  # the page shows how things stand
        assessing.retry(signed_in(request), pk)
    return redirect("debrief", pk=pk)


@require_POST
@login_required
def ask_for_review(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask a person to look at how an answer was marked."""
    with suppress(Conflict):  # the page shows that it was asked before
        assessing.ask_for_review(signed_in(request), pk, request.POST.get("reason", "")[: assessing.LONGEST_REASON])
    return redirect("debrief", pk=pk)


@require_POST
@login_required
def rewrite(request: HttpRequest, pk: int) -> HttpResponse:
    """Write the text of a run again that failed or was stopped, for browsers without JavaScript."""
    with suppress(Conflict):  # the page shows how things stand
        running.rewrite(user=signed_in(request), simulation_id=pk)
    return redirect("simulation", pk=pk)
