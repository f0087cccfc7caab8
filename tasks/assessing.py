"""Marking a submission: beginning it, keeping what came of it, marking again, by the learner or by a person.

One assessment is in force for each submission. A new one takes the place of the last in the same transaction; a
person's is never replaced by a machine's.
"""

import uuid
from collections.abc import Mapping, Sequence

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.http import Http404
from django.utils import timezone, translation
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from generation.models import Generation
from generation.upstream import candidates
from tasks.marking import asking, screening
from tasks.marking.checks import Checked, check_all
from tasks.marking.instructing import instructing_passages
from tasks.marking.reading import Reading, read
from tasks.marking.rubric import RubricCriterion
from tasks.models import Assessment, Mark, Review, Simulation, Submission, Task
from tasks.models.assessment import AssessmentQuerySet
from web.problems import Conflict

ASSESSMENT = "assessment"
LONGEST_REASON = 2000  # characters of a learner's wish that a person look

_BECAUSE = Assessment.Because
# The faults of a text that say something else than that nobody was available.
_BECAUSE_OF_FAULT = {"budget_exhausted": _BECAUSE.BUDGET, "cancelled": _BECAUSE.STOPPED}


def begin(submission: Submission, rubric: list[RubricCriterion]) -> Assessment:
    """Make the assessment of an answer that was just handed in; whoever looks at it first has it written.

    Answers that say nothing are marked here and now, and no model is asked.
    """
    because = screening.screened(submission.answer, submission.task.question)
    if not rubric:
        because = _BECAUSE.NO_CRITERIA
    if because:
        return _mark_by_rule(submission, rubric, because)
    return _begin_by_model(submission, rubric)


def _mark_by_rule(submission: Submission, rubric: list[RubricCriterion], because: str) -> Assessment:
    assessment = Assessment.objects.create(
        submission=submission,
        marked_by=Assessment.MarkedBy.RULE,
        status=Assessment.Status.MARKED,
        because=because,
        rubric=rubric,
        marked_at=timezone.now(),
    )
    with translation.override(submission.task.simulation.language):
        reason = _reason(because)
    Mark.objects.bulk_create(
        [Mark(assessment=assessment, criterion=one["slug"], points=0, reason=reason) for one in rubric]
    )
    return assessment


def _reason(because: str) -> str:
    match because:
        case _BECAUSE.EMPTY:
            return gettext("You handed in an empty answer, so there is nothing to mark.")
        case _BECAUSE.COPIED:
            return gettext("This repeats the task. Only what you write yourself can be marked.")
        case _:
            return gettext("This is too short to show what you would do.")


def _begin_by_model(submission: Submission, rubric: list[RubricCriterion]) -> Assessment:
    if not candidates.any_configured():
        return _not_marked(submission, rubric, _BECAUSE.NO_MODEL)
    simulation = submission.task.simulation
    return Assessment.objects.create(
        submission=submission,
        marked_by=Assessment.MarkedBy.MODEL,
        rubric=rubric,
        prompt_version=asking.PROMPT_VERSION,
        tries_to_instruct=bool(instructing_passages(submission.answer)),
        generation=Generation.objects.create(
            user_id=simulation.user_id,
            kind=ASSESSMENT,
            subject=simulation.profession.slug,
            source=Generation.Source.MODEL,
            # Handing in asked for it: should the process die before it begins, the sweep has it written.
            held_until=timezone.now(),
        ),
    )


def _not_marked(submission: Submission, rubric: list[RubricCriterion], because: str) -> Assessment:
    return Assessment.objects.create(
        submission=submission,
        marked_by=Assessment.MarkedBy.SELF,
        status=Assessment.Status.NOT_MARKED,
        because=because,
        rubric=rubric,
    )


def checked(assessment: Assessment, reading: Reading) -> Checked:
    """Return what can be used of the marks that a model wrote for an assessment."""
    answer = assessment.submission.answer
    return check_all(reading.marks, assessment.criteria, answer, instructing=instructing_passages(answer))


def keep(assessment: Assessment, generation: Generation) -> None:
    """Store what a model's text says, or why there are no marks. For the transaction that stores the text's end."""
    if generation.status != Generation.Status.COMPLETED:
        because = _BECAUSE_OF_FAULT.get(generation.fault, _BECAUSE.UNAVAILABLE)
        _store(assessment, Assessment.Status.NOT_MARKED, because=because)
        return
    reading = read(generation.text)
    usable = checked(assessment, reading)
    if usable.missing(assessment.criteria):
        _store(assessment, Assessment.Status.NOT_MARKED, because=_BECAUSE.UNUSABLE)
        return
    assessment.marks.all().delete()
    Mark.objects.bulk_create(
        [
            Mark(
                assessment=assessment,
                criterion=mark.criterion["slug"],
                points=mark.points,
                quotation=mark.quotation,
                start=mark.start,
                end=mark.end,
                reason=mark.reason,
            )
            for mark in usable.marks.values()
        ]
    )
    _store(assessment, Assessment.Status.MARKED, next_time=reading.next_time[:1000])


def _store(assessment: Assessment, status: Assessment.Status, *, because: str = "", next_time: str = "") -> None:
    assessment.status, assessment.because, assessment.next_time = status, because, next_time
    assessment.marked_at = timezone.now()
    assessment.save(update_fields=["status", "because", "next_time", "marked_at"])


def are_marks_pending(simulation: Simulation) -> bool:
    """Return whether an answer of a run is being marked."""
    return _pending(simulation).exists()


def _pending(simulation: Simulation) -> AssessmentQuerySet:
    own = Assessment.objects.in_force().filter(submission__task__simulation=simulation)
    return own.filter(status=Assessment.Status.PENDING)


def free_what_waits(assessment: Assessment) -> list[uuid.UUID]:
    """Let the text begin that waited for these marks, and return which; the report waits for the last ones."""
    task = assessment.submission.task
    following = Q(task__simulation=task.simulation_id, task__order=task.order + 1)
    if not are_marks_pending(task.simulation):
        following |= Q(pk=task.simulation.report_id)
    waiting = list(Generation.objects.filter(following, held_until__gt=Now()).values_list("pk", flat=True))
    Generation.objects.filter(pk__in=waiting).free()
    return waiting


def in_force(user: User, task_id: int) -> Assessment:
    """Return the assessment in force of a learner's task.

    Raises:
        Http404: the task is not the learner's.
        Conflict: it has no answer yet.
    """
    found = (
        Assessment.objects.visible_to(user)
        .in_force()
        .with_marks()
        .select_related("submission__task__brief", "submission__task__simulation__profession", "generation")
        .defer("generation__messages", "generation__options")
        .filter(submission__task__pk=task_id)
        .first()
    )
    if found is not None:
        return found
    if not Task.objects.visible_to(user).filter(pk=task_id).exists():
        raise Http404
    raise Conflict(_("This task is not answered yet. Hand in an answer first."), code="not_submitted")


def pending_text(task_id: int) -> Generation | None:
    """Return the text that the marks of a task's answer will come from, while it is to be written."""
    pending = Assessment.objects.in_force().filter(submission__task__pk=task_id, status=Assessment.Status.PENDING)
    found = pending.select_related("generation").first()
    return found.generation if found is not None else None


def ask_for_review(user: User, task_id: int, reason: str) -> Assessment:
    """Record that a learner wants a person to look at how an answer was marked; once for each task.

    Raises:
        Http404: the task is not the learner's.
        Conflict: it has no answer yet, or a person was asked before.
    """
    assessment = in_force(user, task_id)
    _review, is_first = Review.objects.get_or_create(submission=assessment.submission, defaults={"reason": reason})
    if not is_first:
        raise Conflict(_("You have asked a person to look at this before."), code="already_asked")
    return assessment


def retry(user: User, task_id: int) -> Assessment:
    """Have an answer marked again that is not marked.

    Raises:
        Http404: the task is not the learner's.
        Conflict: it is marked, being marked, or no model is there to do it.
    """
    assessment = in_force(user, task_id)
    if not assessment.can_be_retried or not candidates.any_configured():
        raise Conflict(_("There is nothing to mark again. Reload the page."), code="not_retryable")
    with transaction.atomic():
        _supersede(assessment)
        _begin_by_model(assessment.submission, assessment.criteria)
    return in_force(user, task_id)


def mark_oneself(user: User, task_id: int, points: Mapping[str, int]) -> Assessment:
    """Keep the points that a learner gave themselves, by criterion, where nobody else marked.

    Raises:
        Http404: the task is not the learner's.
        Conflict: it is marked or being marked, or the points are not those of the levels of its criteria.
    """
    assessment = in_force(user, task_id)
    if not assessment.is_for_learner and assessment.status != Assessment.Status.SELF:
        raise Conflict(_("This answer is marked, or being marked. Reload the page."), code="already_marked")
    if problem := _problem_with(points, assessment.criteria):
        raise Conflict(problem, code="other_criteria")
    with transaction.atomic():
        _supersede(assessment)
        own = Assessment.objects.create(
            submission=assessment.submission,
            marked_by=Assessment.MarkedBy.SELF,
            status=Assessment.Status.SELF,
            because=assessment.because,
            rubric=assessment.rubric,
            marked_at=timezone.now(),
        )
        Mark.objects.bulk_create(
            [Mark(assessment=own, criterion=one["slug"], points=points[one["slug"]]) for one in own.criteria]
        )
    return in_force(user, task_id)


def mark_by_person(
    submission: Submission, *, person: User, points: Mapping[str, int], reasons: Mapping[str, str]
) -> None:
    """Keep the points that a person of the staff gave, by criterion, in place of those in force.

    A passage that was quoted for the same points stays quoted. Raises Conflict when the points are not those of the
    levels of its criteria.
    """
    with transaction.atomic():
        before = Assessment.objects.in_force().with_marks().select_for_update().get(submission=submission)
        if problem := _problem_with(points, before.criteria):
            raise Conflict(problem, code="other_criteria")
        _supersede(before)
        own = Assessment.objects.create(
            submission=submission,
            marked_by=Assessment.MarkedBy.PERSON,
            person=person,
            status=Assessment.Status.MARKED,
            rubric=before.rubric,
            next_time=before.next_time,
            tries_to_instruct=before.tries_to_instruct,
            marked_at=timezone.now(),
        )
        earlier = {mark.criterion: mark for mark in before.ordered_marks}
        Mark.objects.bulk_create(
            [_mark_by_person(own, slug, points[slug], reasons.get(slug, ""), earlier.get(slug)) for slug in points]
        )
        Review.objects.filter(submission=submission, answered_at=None).update(answered_at=timezone.now())


def _mark_by_person(own: Assessment, slug: str, points: int, reason: str, earlier: Mark | None) -> Mark:
    mark = Mark(assessment=own, criterion=slug, points=points, reason=reason)
    if earlier is not None and earlier.points == points:
        mark.quotation, mark.start, mark.end = earlier.quotation, earlier.start, earlier.end
    return mark


def _problem_with(points: Mapping[str, int], rubric: Sequence[RubricCriterion]) -> Promise | None:
    if set(points) != {criterion["slug"] for criterion in rubric}:
        return _("Give points for each criterion, and for no other.")
    for criterion in rubric:
        if points[criterion["slug"]] not in [level["points"] for level in criterion["levels"]]:
            return _("Give each criterion the points of one of its levels.")
    return None


def _supersede(assessment: Assessment) -> None:
    """Take an assessment out of force. Raises Conflict when another request did so first."""
    superseded = Assessment.objects.in_force().filter(pk=assessment.pk).update(superseded_at=timezone.now())
    if not superseded:
        raise Conflict(_("This answer is being marked. Reload the page."), code="already_marked")
