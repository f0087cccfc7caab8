"""What nobody needs any more is deleted, so that rows do not grow without end."""

import logging
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from knox.models import AuthToken

from accounts.models import RateCount, User
from generation.models import Attempt, Generation
from tasks.models import Simulation, Submission, Task

IDLE_GUESTS_ARE_KEPT_FOR = timedelta(days=30)
# A page of it may still be open in some tab.
EMPTY_RUNS_ARE_KEPT_FOR = timedelta(days=1)
PROMPTS_ARE_KEPT_FOR = timedelta(days=30)
AT_ONCE = 500
SECONDS_BETWEEN = 24 * 3600

logger = logging.getLogger("tasks.retention")


def delete_leftovers() -> None:
    """Delete guests who never did anything, runs in which nothing happened, what has expired, and old prompts.

    A run that a model was asked for stays: what was spent is summed up from its attempts.
    """
    deleted = {
        "guests": _in_parts(_delete_guests),
        "runs": _in_parts(_delete_runs),
        "tokens": AuthToken.objects.filter(expiry__lt=timezone.now()).delete()[0],
        "prompts": _in_parts(_delete_prompts),
    }
    RateCount.objects.free().delete()
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
    if any(deleted.values()):
        logger.info("deleted %s", ", ".join(f"{count} {what}" for what, count in deleted.items()))


def _in_parts(delete: Callable[[], int]) -> int:
    """Delete some at a time, because each transaction keeps other writers waiting."""
    total = 0
    while count := delete():
        total += count
    return total


@transaction.atomic
def _delete_guests() -> int:
    before = timezone.now() - IDLE_GUESTS_ARE_KEPT_FOR
    answered = Submission.objects.filter(task__simulation__user=OuterRef("pk"))
    asked_lately = Generation.objects.filter(user=OuterRef("pk")).filter(
        Q(asked_at__gte=before) | Q(started_at__gte=before)
    )
    idle = User.objects.filter(is_guest=True, date_joined__lt=before).exclude(Exists(answered) | Exists(asked_lately))
    guests = list(idle.values_list("pk", flat=True)[:AT_ONCE])
    User.objects.filter(pk__in=guests).delete()
    return len(guests)


@transaction.atomic
def _delete_runs() -> int:
    its_tasks = Task.objects.filter(simulation=OuterRef("pk"))
    answered = Submission.objects.filter(task__simulation=OuterRef("pk"))
    paid_for = Attempt.objects.filter(generation__task__simulation=OuterRef("pk"))
    growing = its_tasks.filter(generation__status=Generation.Status.RUNNING)
    empty = Simulation.objects.filter(superseded_at__lt=timezone.now() - EMPTY_RUNS_ARE_KEPT_FOR, report=None).exclude(
        Exists(answered) | Exists(paid_for) | Exists(growing)
    )
    runs = list(empty.values_list("pk", flat=True)[:AT_ONCE])
    texts = list(Task.objects.filter(simulation__in=runs).values_list("generation", flat=True))
    Simulation.objects.filter(pk__in=runs).delete()
    Generation.objects.filter(pk__in=texts).delete()
    return len(runs)


@transaction.atomic
def _delete_prompts() -> int:
    """Empty the prompts of runs that have ended: they hold every text and answer of a run once more for each task."""
    ended = Simulation.objects.filter(
        report__status=Generation.Status.COMPLETED, report__finished_at__lt=timezone.now() - PROMPTS_ARE_KEPT_FOR
    )
    marks = Q(assessment__submission__task__simulation__in=ended)
    of_these = Q(task__simulation__in=ended) | Q(pk__in=ended.values("report")) | marks
    texts = list(Generation.objects.filter(of_these).exclude(messages=[]).values_list("pk", flat=True)[:AT_ONCE])
    return Generation.objects.filter(pk__in=texts).update(messages=[])
