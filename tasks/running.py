"""A learner's run: starting it, what comes next, handing in, writing again.

Each step is one transaction that leaves the simulation with exactly one text to read next. Nothing here waits for a
model: a text is asked for by making its row, and written by whoever looks at it first.
"""

from contextlib import suppress
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.http import Http404
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from accounts.limits import Limit
from accounts.models import User
from generation import budget
from generation.models import Generation
from generation.upstream import candidates
from professions.models import Brief, Profession
from tasks import assessing
from tasks.marking.rubric import RubricCriterion, rubric_of
from tasks.models import Assessment, Simulation, SimulationQuerySet, Submission, Task
from web.problems import Conflict, Problem

TASK = "task"
REPORT = "report"


def profession_for(user: User, pk: int) -> Profession:
    """Return a profession that is published, or that the learner is in the middle of. Raises Http404."""
    running = Simulation.objects.visible_to(user).current().filter(profession=OuterRef("pk"))
    profession = Profession.objects.filter(Q(published=True) | Exists(running), pk=pk).first()
    if profession is None:
        raise Http404
    return profession


def find(user: User, **lookup: object) -> Simulation:
    """Return one of the learner's simulations with everything that is shown of it. Raises Http404."""
    simulation = Simulation.objects.visible_to(user).with_everything().filter(**lookup).first()
    if simulation is None:
        raise Http404
    return simulation


def open_simulation(*, user: User, profession: Profession, language: str) -> Simulation:
    """Return the learner's current simulation of a profession, starting one if there is none."""
    current = Simulation.objects.visible_to(user).current().filter(profession=profession)
    if not current.exists():
        with suppress(IntegrityError):  # another request of the same learner was first
            _create(user=user, profession=profession, language=language)
    return find(user, profession=profession, superseded_at=None)


def start_afresh(*, user: User, profession: Profession, language: str) -> Simulation:
    """Start a new simulation; the current one goes into the history, unless it is as fresh as a new one would be.

    Raises:
        Problem: 429 when the person did so too often.
    """
    current = Simulation.objects.visible_to(user).current().filter(profession=profession)
    with suppress(IntegrityError), transaction.atomic():
        # One at a time for each person, or parallel requests would each supersede what another has just started.
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if not current.unread().filter(language=language).exists():
            if current.exists():
                _count_fresh_start(user)
            current.update(superseded_at=timezone.now())
            _create(user=user, profession=profession, language=language)
    return find(user, profession=profession, superseded_at=None)


def _count_fresh_start(user: User) -> None:
    limit = Limit.per_hour("fresh starts", settings.FRESH_STARTS_PER_HOUR)
    if not limit.take(str(user.pk)):
        raise Problem(
            _("You have started again many times within an hour. Go on with the run you have, or wait a little."),
            code="too_many_starts",
            status=429,
            retry_after=limit.seconds_to_wait(str(user.pk)),
        )


def refuse_guests_if_spent() -> None:
    """Refuse to make a guest who could not start anything today. Raises Problem, 429."""
    if candidates.any_configured():
        budget.refuse_if_spent(None)


@transaction.atomic
def _create(*, user: User, profession: Profession, language: str) -> None:
    briefs = profession.ordered_briefs
    if not briefs:
        raise Conflict(_("This profession has no tasks yet."), code="no_tasks")
    if candidates.any_configured():
        budget.refuse_if_spent(user)
    simulation = Simulation.objects.create(user=user, profession=profession, language=language)
    _set_task(simulation, order=1, brief=briefs[0])


def too_long(answer: str) -> Promise | None:
    """Return what to tell a learner whose answer is over the limit, None where it is not."""
    if len(answer) <= settings.ANSWER_MAX_CHARACTERS:
        return None
    message = _("The answer has {length} characters; {most} are allowed. Shorten it and hand it in again.")
    return format_lazy(message, length=len(answer), most=settings.ANSWER_MAX_CHARACTERS)


def submit(*, user: User, task_id: int, answer: str, hold: bool = False) -> Generation:
    """Store an answer and return the text that follows it: the next task's, or the report's.

    Handing in the same answer again gives the same text again.

    Args:
        hold: what follows waits for the marks, for a time, because the learner reads them first. The report always
            waits for the last marks.

    Raises:
        Http404: the task is not the learner's.
        Conflict: another answer was handed in before, or the task is not the one to answer now.
    """
    task = Task.objects.visible_to(user).select_related("brief").filter(pk=task_id).first()
    if task is None:
        raise Http404
    rubric = rubric_of(task.brief)  # read before the lock that others wait for
    try:
        with transaction.atomic():
            _lock(Simulation.objects.filter(pk=task.simulation_id))
            simulation = find(user, pk=task.simulation_id)
            _hand_in(simulation, task_id=task_id, answer=answer, rubric=rubric, hold=hold)
    except IntegrityError:
        pass  # the same click twice: the other request stored it, and what it stored is compared below
    simulation = find(user, pk=task.simulation_id)
    stored = _task_of(simulation, task_id)
    if stored.submission.answer != answer:
        raise Conflict(_("You handed in another answer to this task before. It stands."), code="already_submitted")
    if stored.order < len(simulation.ordered_tasks):
        return simulation.ordered_tasks[stored.order].generation
    return simulation.current_text


def _hand_in(simulation: Simulation, *, task_id: int, answer: str, rubric: list[RubricCriterion], hold: bool) -> None:
    """Store the answer and set what comes next, unless the task has an answer already."""
    task = _task_of(simulation, task_id)
    if task.is_submitted:
        return
    if not simulation.is_current or task != simulation.current_task:
        raise Conflict(_("This is not the task to answer now. Reload the page."), code="not_current")
    if not task.can_be_answered:
        raise Conflict(_("The task is not written to its end yet. Wait for it, then answer."), code="not_ready")
    task.submission = Submission.objects.create(task=task, answer=answer)
    is_marked_later = assessing.begin(task.submission, rubric).status == Assessment.Status.PENDING
    given = {one.brief_id for one in simulation.ordered_tasks}
    brief = next((brief for brief in simulation.profession.briefs.all() if brief.pk not in given), None)
    if brief is not None:
        _set_task(simulation, order=task.order + 1, brief=brief, held=hold and is_marked_later)
    else:
        simulation.report = _new_text(simulation, kind=REPORT, held=assessing.are_marks_pending(simulation))
        simulation.save(update_fields=["report"])


def _task_of(simulation: Simulation, task_id: int) -> Task:
    return next(task for task in simulation.ordered_tasks if task.pk == task_id)


def _set_task(simulation: Simulation, *, order: int, brief: Brief, held: bool = False) -> None:
    Task.objects.create(
        simulation=simulation,
        brief=brief,
        order=order,
        time_limit_minutes=brief.time_limit_minutes,
        generation=_new_text(simulation, kind=TASK, held=held),
    )


def _new_text(simulation: Simulation, *, kind: str, held: bool) -> Generation:
    """Make the row of a text. What a model is asked is composed when the text is claimed (tasks/kinds.py)."""
    by_model = candidates.any_configured()
    wait = timedelta(seconds=settings.DEBRIEF_WAIT_SECONDS)
    return Generation.objects.create(
        user_id=simulation.user_id,
        kind=kind,
        subject=simulation.profession.slug,
        source=Generation.Source.MODEL if by_model else Generation.Source.AUTHORED,
        authored_because="" if by_model else Generation.AuthoredBecause.NO_MODEL,
        held_until=timezone.now() + wait if held else None,
    )


def stop_waiting(generation: Generation) -> None:
    """Let a task begin at once that waits for marks, because its learner goes on; the report waits for them."""
    if generation.kind == TASK and generation.seconds_held():
        Generation.objects.filter(pk=generation.pk).free()


def go_on(generation: Generation) -> Generation:
    """Let a learner go on to a text: it waits for no marks any more, and is written again where it failed."""
    stop_waiting(generation)
    return retry_if_failed(generation)


def retry_if_failed(generation: Generation) -> Generation:
    """Make a text that failed wait to be written again. One that its reader stopped stays, unless nothing is there."""
    if generation.is_final and generation.status != Generation.Status.COMPLETED and not generation.was_stopped:
        _restart(generation)
    return generation


def rewrite(*, user: User, simulation_id: int) -> Generation:
    """Make the text that a learner is to read now wait to be written again, if it failed or was stopped.

    Raises:
        Http404: the simulation is not the learner's.
        Conflict: there is nothing to write again, because the text is whole or the run has gone on.
    """
    generation = find(user, pk=simulation_id).current_text
    if generation.is_final and not _restart(generation):
        raise Conflict(_("There is nothing to write again. Reload the page."), code="not_current")
    return generation


@transaction.atomic
def _restart(generation: Generation) -> bool:
    """Restart a text and take back its clock, unless its task is answered, or its run superseded, in another tab."""
    is_current = Q(report=generation) | Q(report=None, tasks__generation=generation, tasks__submission=None)
    of_this = Q(report=generation) | Q(tasks__generation=generation)
    _lock(Simulation.objects.filter(of_this))
    restarted = Simulation.objects.current().filter(is_current).exists() and Generation.objects.restart(generation.pk)
    if restarted:
        Task.objects.filter(generation=generation).update(clock_started_at=None)
    generation.refresh_from_db()
    return restarted


def _lock(simulations: SimulationQuerySet) -> None:
    """Wait until nobody else changes a simulation, until the end of the transaction.

    On SQLite a transaction keeps all others out anyway.
    """
    found = Simulation.objects.filter(pk__in=simulations.values("pk"))
    list(found.select_for_update(no_key=True).values_list("pk", flat=True))


def hand_over(*, guest: User, user: User, **_kwargs: object) -> None:
    """Hand a guest's simulations over to the account the guest logged in to.

    Where the account is in the middle of the same profession, the guest's run goes into its history.
    """
    with transaction.atomic():
        taken = Simulation.objects.visible_to(user).current().values("profession")
        guests = Simulation.objects.visible_to(guest)
        guests.current().filter(profession__in=taken).update(superseded_at=timezone.now())
        guests.update(user=user)
        Generation.objects.visible_to(guest).update(user=user)
