"""Staff have the last word on marks, and what follows from marks follows theirs."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import User
from generation.models import Generation
from professions.models import Profession
from tasks import assessing, running
from tasks.models import Assessment, Mark, Simulation, Submission
from tests.conftest import make_marked_profession
from tests.test_marking import ANSWER
from web.problems import Conflict

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("static_files")]


@pytest.fixture
def nursery() -> Profession:
    return make_marked_profession()


@pytest.fixture
def submission(nursery: Profession, alice: User) -> Submission:
    """An answer that a model has marked: no cause, asks first, says half when."""
    simulation = running.open_simulation(user=alice, profession=nursery, language="en")
    task = simulation.current_task
    Generation.objects.filter(pk=task.generation_id).update(status="completed", text="Read.")
    running.submit(user=alice, task_id=task.pk, answer=ANSWER)
    assessment = Assessment.objects.get()
    Assessment.objects.update(marked_by="model", status="marked", because="")
    start = ANSWER.index("I ask Amara")
    Mark.objects.create(assessment=assessment, criterion="names-the-cause", points=0, reason="You name none.")
    Mark.objects.create(
        assessment=assessment,
        criterion="asks-first",
        points=3,
        quotation="I ask Amara",
        start=start,
        end=start + len("I ask Amara"),
        reason="You ask.",
    )
    Mark.objects.create(assessment=assessment, criterion="says-when", points=1, reason="You say that.")
    return Submission.objects.get()


@pytest.fixture
def teacher(db: None) -> Client:
    user = User.objects.create_user("teacher", is_staff=True)
    codes = ["view_submission", "change_submission", "add_assessment", "view_assessment"]
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    client = Client()
    client.force_login(user)
    return client


def page(submission: Submission) -> str:
    return reverse("admin:tasks_submission_mark", args=[submission.pk])


MARKS = {"names-the-cause": "2", "asks-first": "3", "says-when": "0", "names-the-cause-reason": "You do: mildew."}


def test_a_persons_marks_take_the_place_of_a_models_and_move_state_and_report(
    teacher: Client, submission: Submission, alice: User
) -> None:
    assessing.ask_for_review(alice, submission.task_id, "I did name it.")
    listed = teacher.get(reverse("admin:tasks_submission_changelist"), {"waits": "asked"})
    assert "1 submission" in listed.text
    opened = teacher.get(reverse("admin:tasks_submission_change", args=[submission.pk])).text
    assert page(submission) in opened
    assert "I did name it." in opened
    form = teacher.get(page(submission)).text
    assert "<mark>I ask Amara</mark>" in form
    assert teacher.post(page(submission), MARKS).status_code == 302
    now = Assessment.objects.in_force().get()
    assert (now.marked_by, now.status, now.points, str(now.person)) == ("person", "marked", 5, "teacher")
    assert Assessment.objects.count() == 2, "the model's stay"
    kept = now.marks.get(criterion="asks-first")
    assert (kept.quotation, kept.start) == ("I ask Amara", ANSWER.index("I ask Amara"))
    browser = Client()
    browser.force_login(alice)
    task = running.find(alice, pk=Simulation.objects.get().pk).current_task
    shown = browser.get(f"/tasks/{submission.task_id}/debrief").text
    assert "Marked by a person." in shown
    assert "You do: mildew." in shown
    assert "because the cause was named" in shown
    Generation.objects.filter(pk=task.generation_id).update(status="completed", text="Read.")
    running.submit(user=alice, task_id=task.pk, answer="")
    Generation.objects.filter(kind="report").update(status="completed", text="You saw mildew.")
    report = browser.get(f"/simulations/{task.simulation_id}/report").text
    assert "Marked by a person." in report
    assert "<strong>5</strong> of 16 points" in report
    assert "60 → 55" in report
    listed = teacher.get(reverse("admin:tasks_submission_changelist"), {"waits": "asked"})
    assert "0 submissions" in listed.text


def test_no_machine_takes_the_place_of_a_person(teacher: Client, submission: Submission, alice: User) -> None:
    teacher.post(page(submission), MARKS)
    with pytest.raises(Conflict):
        assessing.retry(alice, submission.task_id)
    with pytest.raises(Conflict):
        assessing.mark_oneself(alice, submission.task_id, {"names-the-cause": 2, "asks-first": 3, "says-when": 3})
    late = Assessment.objects.exclude(superseded_at=None).get()
    late.generation = Generation.objects.create(user=alice, kind="assessment", source="model", status="completed")
    late.save()
    assessing.keep(late, late.generation)
    assert Assessment.objects.in_force().get().marked_by == "person"


@pytest.mark.parametrize("changes", [{"says-when": "2"}, {"says-when": ""}, {"says-when": "x"}])
def test_marks_outside_the_rubric_are_refused_from_people_too(
    teacher: Client, submission: Submission, changes: dict[str, str]
) -> None:
    refused = teacher.post(page(submission), MARKS | changes)
    assert refused.status_code == 400
    assert "errornote" in refused.text
    assert Assessment.objects.in_force().get().marked_by == "model"


def test_only_who_may_mark_can(submission: Submission) -> None:
    other = User.objects.create_user("other", is_staff=True)
    other.user_permissions.set(Permission.objects.filter(codename__in=["view_submission", "change_submission"]))
    client = Client()
    client.force_login(other)
    assert client.post(page(submission), MARKS).status_code == 403
    assert Assessment.objects.count() == 1


def test_the_lists_of_what_waits_for_a_person(teacher: Client, submission: Submission) -> None:
    path = reverse("admin:tasks_submission_changelist")
    assert "0 submissions" in teacher.get(path, {"waits": "instructs"}).text
    Assessment.objects.update(tries_to_instruct=True)
    assert "1 submission" in teacher.get(path, {"waits": "instructs"}).text
    Assessment.objects.update(status="not_marked")
    assert "1 submission" in teacher.get(path, {"waits": "not_marked"}).text
    teacher.post(page(submission), MARKS)
    assert "0 submissions" in teacher.get(path, {"waits": "instructs"}).text
    assert "0 submissions" in teacher.get(path, {"waits": "not_marked"}).text
