"""The learner's pages."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import get_language
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.current import signed_in, starts_nothing
from accounts.guests import let_in
from generation import streams
from generation.models import Generation
from generation.upstream.faults import FAULTS
from professions.markdown import to_html
from professions.models import Profession
from simulator.problems import Conflict, Problem
from tasks import running
from tasks.forms import AnswerForm
from tasks.models import Simulation, SimulationQuerySet, Task


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
    try:
        user = let_in(request)
    except Problem:
        return redirect_to_login(reverse("profession", args=[slug]))
    begin = running.start_afresh if request.POST.get("fresh") else running.open_simulation
    try:
        simulation = begin(user=user, profession=found, language=get_language())
    except Problem as problem:
        messages.error(request, str(problem.message))
        return redirect("profession", slug=slug)
    return redirect("simulation", pk=simulation.pk)


@never_cache
@require_safe
@login_required
def simulation(request: HttpRequest, pk: int) -> HttpResponse:
    found = running.find(signed_in(request), pk=pk)
    if found.report is not None:
        return redirect("report", pk=pk)
    task = found.current_task
    if not starts_nothing(request):
        streams.begin(task.generation)
    if request.method == "GET":
        task.start_clock()
    context = {
        "simulation": found,
        "task": task,
        "generation": task.generation,
        "question_html": to_html(task.question),
        "seconds_left": task.seconds_left,
        "earlier": [_shown(earlier) for earlier in found.ordered_tasks[:-1]],
        "error_message": _error_message(task.generation),
        "can_answer": found.is_current and task.can_be_answered,
    }
    return render(request, "tasks/simulation.html", context)


@never_cache
@require_safe
@login_required
def report(request: HttpRequest, pk: int) -> HttpResponse:
    found = running.find(signed_in(request), pk=pk)
    if found.report is None:
        return redirect("simulation", pk=pk)
    if not starts_nothing(request):
        streams.begin(found.report)
    context = {
        "simulation": found,
        "profession": found.profession,
        "generation": found.report,
        "report_html": to_html(found.report.text),
        "tasks": [_shown(task, with_expert=True) for task in found.ordered_tasks],
        "error_message": _error_message(found.report),
    }
    return render(request, "tasks/report.html", context)


def _shown(task: Task, *, with_expert: bool = False) -> dict[str, object]:
    shown: dict[str, object] = {
        "order": task.order,
        "title": task.title,
        "question_html": to_html(task.question),
        "answer": task.submission.answer if task.is_submitted else "",
    }
    if with_expert:
        shown["expert_html"] = to_html(task.brief.expert_answer)
    return shown


def _error_message(generation: Generation) -> str:
    return str(FAULTS[generation.fault].message) if generation.fault else ""


@never_cache
@require_safe
@login_required
def simulations(request: HttpRequest) -> HttpResponse:
    return render(request, "tasks/simulations.html", {"simulations": _own_simulations(request)})


@require_POST
@login_required
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    """Take an answer from the form itself, for browsers without JavaScript."""
    task = get_object_or_404(Task.objects.visible_to(signed_in(request)), pk=pk)
    form = AnswerForm(request.POST)
    if not form.is_valid():
        return render(request, "tasks/answer_refused.html", {"form": form, "task": task}, status=400)
    try:
        running.submit(user=signed_in(request), task_id=pk, answer=form.cleaned_data["answer"])
    except Conflict as conflict:
        context = {"task": task, "error_message": conflict.message, "answer": form.cleaned_data["answer"]}
        return render(request, "tasks/answer_refused.html", context, status=conflict.status)
    return redirect("simulation", pk=task.simulation_id)


@require_POST
@login_required
def rewrite(request: HttpRequest, pk: int) -> HttpResponse:
    """Have the text of the current task written again, for browsers without JavaScript."""
    task = get_object_or_404(Task.objects.visible_to(signed_in(request)), pk=pk)
    running.again_if_failed(task.generation)
    return redirect("simulation", pk=task.simulation_id)


@require_POST
@login_required
def rewrite_report(request: HttpRequest, pk: int) -> HttpResponse:
    """Have the report written again, for browsers without JavaScript."""
    running.again_if_failed(running.find(signed_in(request), pk=pk).current_text)
    return redirect("report", pk=pk)
