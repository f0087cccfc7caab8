"""What follows an answer waits for its marks where the learner reads them first, and is told what they changed."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from generation.models import Generation
from professions.models import Profession
from tasks.models import Assessment, Task
from tests.client import Client, text_of, types_of
from tests.conftest import KEY, ServerStarter, make_marked_profession
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.graders import marks
from tests.test_marking import ALL, ANSWER, ASKS, CAUSE, WHEN, grade
from tests.waiting import wait_until


@pytest.fixture
def nursery(db: None) -> Profession:
    return make_marked_profession()


@pytest.fixture
def client(
    start_own_server: ServerStarter, provider: FakeOpenAI, alice_token: str, nursery: Profession
) -> Iterator[Client]:
    """A learner on a server that waits for marks as long as it takes."""
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, DEBRIEF_WAIT_SECONDS="600")
    with Client(server.url, token=alice_token) as client:
        yield client


def current(profession: Profession) -> str:
    return f"/api/tasks/profession/{profession.pk}/current"


def hand_in(client: Client, profession: Profession) -> int:
    """Hand in an answer and hold what follows; return the task's id."""
    task: int = client.get(current(profession)).json()["id"]
    events = client.events(f"/api/tasks/{task}/submit/stream?hold=1", body={"answer": ANSWER})
    assert types_of(events)[-1] == "held"
    return task


def test_what_follows_is_written_when_the_marks_are_there_and_knows_them(
    client: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    provider.grader = Behaviour(text=marks(CAUSE | {"level": 0}, ASKS, WHEN), hold_after=0)
    task = client.get(current(nursery)).json()["id"]
    events = client.events(f"/api/tasks/{task}/submit/stream?hold=1", body={"answer": ANSWER})
    assert types_of(events) == ["metadata", "held"]
    following = Task.objects.get(order=2)
    assert events[0]["data"]["id"] == events[1]["data"]["task_id"] == following.pk
    provider.wait_for(lambda fake: bool(fake.markings) and fake.markings[0].held)
    assert len(provider.requests) == 1, "nothing is asked for before the marks"
    provider.release()
    wait_until(lambda: Generation.objects.get(task=following).status == "completed", what="the text, without a reader")
    told = provider.requests[1].last_user_message
    assert "Amara's trust: 45, of 0 to 100; it was 60: nobody looked at the leaves." in told
    assert "Amara has asked a neighbour about bed 1." in told
    following.refresh_from_db()
    assert following.clock_started_at is None, "the clock waits for the learner"
    now = client.events(f"{current(nursery)}/stream")
    assert (now[0]["data"]["state"][0]["value"], now[0]["data"]["state"][0]["change"]) == (45, -15)
    following.refresh_from_db()
    assert following.clock_started_at is not None
    assert len(provider.requests) == 2


def test_a_learner_who_goes_on_earlier_waits_for_no_marks(
    client: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    provider.grader = Behaviour(text=ALL, hold_after=0)
    hand_in(client, nursery)
    provider.wait_for(lambda fake: bool(fake.markings) and fake.markings[0].held)
    events = client.events(f"{current(nursery)}/stream")
    assert types_of(events) == ["metadata", "token", "done"]
    assert Assessment.objects.get().status == "pending"
    provider.release()
    wait_until(lambda: Assessment.objects.get().status == "marked", what="the marks")
    assert len(provider.requests) == 2


def test_what_follows_waits_no_longer_than_the_setting_says(
    start_own_server: ServerStarter, provider: FakeOpenAI, alice_token: str, nursery: Profession
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, DEBRIEF_WAIT_SECONDS="1")
    provider.grader = Behaviour(text=ALL, hold_after=0)
    with Client(server.url, token=alice_token) as client:
        hand_in(client, nursery)
        following = Task.objects.get(order=2).generation_id
        wait_until(lambda: Generation.objects.get(pk=following).status == "completed", what="the text without marks")
    assert Assessment.objects.get().status == "pending"
    provider.release()


def test_what_follows_is_begun_though_the_process_that_marked_died(
    start_own_server: ServerStarter, provider: FakeOpenAI, alice_token: str, nursery: Profession
) -> None:
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url, "DEBRIEF_WAIT_SECONDS": "2"}
    server = start_own_server(**environment)
    provider.grader = Behaviour(text=ALL, hold_after=0)
    with Client(server.url, token=alice_token) as client:
        hand_in(client, nursery)
    provider.wait_for(lambda fake: bool(fake.markings) and fake.markings[0].held)
    server.process.kill()
    server.process.wait()
    provider.grader = Behaviour(text=ALL)
    start_own_server(**environment)
    wait_until(lambda: Assessment.objects.get().status == "marked", what="the marks, by another process")
    following = Task.objects.get(order=2).generation_id
    wait_until(lambda: Generation.objects.get(pk=following).status == "completed", what="the text, by another process")


def test_a_client_that_does_not_hold_gets_the_next_task_at_once_and_the_report_with_the_last_marks(
    client: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    provider.grader = Behaviour(text=marks(CAUSE, ASKS, WHEN), hold_after=0)
    task = client.get(current(nursery)).json()["id"]
    events = client.events(f"/api/tasks/{task}/submit/stream", body={"answer": ANSWER})
    assert types_of(events) == ["metadata", "token", "done"], "while the first answer is still being marked"
    last = events[-1]["data"]["task_id"]
    with client.stream(f"/api/tasks/{last}/submit/stream", body={"answer": ANSWER}) as stream:
        provider.wait_for(lambda fake: sum(one.held for one in fake.markings) == 2)
        assert len(provider.requests) == 2, "the report is not asked for yet"
        provider.release()
        told = list(stream)
    assert types_of(told) == ["report", "completed"]
    assert text_of(told, "report")
    asked = provider.requests[2].last_user_message
    assert "- Task 1, Names the cause: 2 of 2. You name what it is." in asked
    assert "- Task 2, Says when: 1 of 3." in asked


def test_where_nothing_is_to_be_marked_later_nothing_waits(
    client: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    task = client.get(current(nursery)).json()["id"]
    client.events(f"/api/tasks/{task}/submit/stream?hold=1", body={"answer": ""})
    following = Task.objects.get(order=2).generation_id
    wait_until(lambda: Generation.objects.get(pk=following).status == "completed", what="the text")
    assert not provider.markings
    assert "Amara's trust: 45" in provider.requests[-1].last_user_message


def test_handing_in_twice_with_hold_is_one_answer_one_marking_and_one_text(
    client: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    grade(provider, ALL)
    task = hand_in(client, nursery)
    again = client.events(f"/api/tasks/{task}/submit/stream?hold=1", body={"answer": ANSWER})
    assert types_of(again) == ["metadata", "held"]
    wait_until(lambda: Generation.objects.filter(status="completed").count() == 3, what="marks and both texts")
    assert (len(provider.requests), len(provider.markings)) == (2, 1)


def test_a_held_text_is_claimed_by_nobody_before_its_time(alice: User) -> None:
    later = timezone.now() + timedelta(minutes=5)
    row = Generation.objects.create(user=alice, kind="verify", source="authored", held_until=later)
    assert Generation.objects.claim(row.pk, owner="somebody") is None
    assert Generation.objects.filter(pk=row.pk).free() == 1
    assert Generation.objects.claim(row.pk, owner="somebody") is not None
