"""A whole simulation through the API, streamed and whole."""

import pytest
from django.db.models import F

from generation.models import Generation
from professions.models import Brief, Profession
from tasks.models import Simulation, Submission
from tests.client import Client, text_of, types_of
from tests.conftest import Server
from tests.fake_openai import Behaviour, FakeOpenAI

ANSWERS = ["Мой ответ 😀", 'She said "no".\n\ndata: {"type": "done"}\n', "third"]


def test_a_client_that_knows_four_events_plays_to_the_report(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens_per_second=200)
    events = as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    for order, answer in enumerate(ANSWERS, start=1):
        assert types_of(events) == ["metadata", "token", "done"]
        metadata, done = events[0]["data"], events[-1]["data"]
        assert (metadata["order"], metadata["total"], metadata["source"]) == (order, 3, "model")
        assert text_of(events) == done["full_text"] == provider.requests[-1].text_sent
        assert done["full_text"] == Generation.objects.get(pk=done["generation_id"]).text
        assert done["task_id"] == metadata["id"]
        assert done["completed"] is False
        events = as_alice.events(f"/api/tasks/{done['task_id']}/submit/stream", body={"answer": answer})
    assert types_of(events) == ["report", "completed"]
    report = events[-1]["data"]["final_report"]
    assert report["text"] == text_of(events, "report") == provider.requests[-1].text_sent
    assert [task["answer"] for task in report["tasks"]] == ANSWERS
    assert [task["expert_answer"][:8] for task in report["tasks"]] == ["EXPERT 1", "EXPERT 2", "EXPERT 3"]
    assert list(Submission.objects.order_by("pk").values_list("answer", flat=True)) == ANSWERS


def test_the_plain_endpoints_answer_the_same_texts_whole(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    task = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    assert task["question"] == provider.requests[0].text_sent
    assert task["seconds_left"] == 600
    for answer in ANSWERS[:-1]:
        submitted = as_alice.post(f"/api/tasks/{task['id']}/submit", {"answer": answer}).json()
        assert submitted["completed"] is False
        task = submitted["next_task"]
        assert task["question"] == provider.requests[-1].text_sent
    finished = as_alice.post(f"/api/tasks/{task['id']}/submit", {"answer": ANSWERS[-1]}).json()
    assert finished["completed"] is True
    assert finished["final_report"]["text"] == provider.requests[-1].text_sent
    assert as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json() == finished
    assert len(provider.requests) == 4


def test_without_a_key_the_authors_texts_are_streamed_and_said_to_be_theirs(
    authored_server: Server, alice_token: str, profession: Profession
) -> None:
    with Client(authored_server.url, token=alice_token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
        for order in (1, 2, 3):
            assert events[0]["data"]["source"] == "authored"
            assert text_of(events) == profession.ordered_briefs[order - 1].authored_text
            events = client.events(f"/api/tasks/{events[-1]['data']['task_id']}/submit/stream", body={"answer": "cut"})
        report = events[-1]["data"]["final_report"]
    assert report["source"] == "authored"
    assert report["text"].startswith("You have seen three days in the garden.")
    assert "LEVEL 3: mildew." in report["text"]
    assert report["text"].endswith("Plant something this week.")


def test_tokens_arrive_while_the_model_still_writes(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=("One ", "two ", "three."), hold_after=1)
    with as_alice.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as stream:
        assert text_of(stream.until("token")) == "One "
        assert Generation.objects.get().status == "running"
        provider.release()
        assert stream.until("done")[-1]["data"]["full_text"] == "One two three."


def test_the_text_is_stored_before_done_is_sent(as_alice: Client, profession: Profession, provider: FakeOpenAI) -> None:
    with as_alice.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as stream:
        done = stream.until("done")[-1]["data"]
        stored = Generation.objects.get()
        assert (stored.status, stored.text) == ("completed", done["full_text"])


def test_an_answer_is_stored_before_the_first_byte_of_the_response(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    task = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    provider.default = Behaviour(hold_after=0)
    with as_alice.stream(f"/api/tasks/{task['id']}/submit/stream", body={"answer": "mulch"}):
        assert Submission.objects.get().answer == "mulch"


def test_the_clock_runs_from_the_moment_the_text_is_there(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(hold_after=1)
    with as_alice.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as stream:
        stream.until("token")
        assert Simulation.objects.get().tasks.get().clock_started_at is None
        provider.release()
        assert stream.until("done")[-1]["data"]["seconds_left"] == 600
    assert Simulation.objects.get().tasks.get().clock_started_at is not None


def test_starting_afresh_keeps_the_earlier_simulation(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    task = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    as_alice.post(f"/api/tasks/{task['id']}/submit", {"answer": "mulch"})
    fresh = as_alice.post("/api/simulations", {"profession_id": profession.pk})
    assert fresh.status_code == 201
    listed = as_alice.get("/api/simulations").json()
    assert [(item["is_current"], item["current_order"]) for item in listed] == [(True, 1), (False, 2)]
    earlier = as_alice.get(f"/api/simulations/{listed[1]['id']}").json()
    assert [item["answer"] for item in earlier["tasks"]] == ["mulch", None]


@pytest.mark.parametrize("hidden", ["PLAN", "EXPERT", "LEVEL", "You write tasks"])
def test_what_is_hidden_is_in_no_answer_before_the_report(
    as_alice: Client, profession: Profession, provider: FakeOpenAI, hidden: str
) -> None:
    with as_alice.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as stream:
        done = stream.until("done")[-1]["data"]
    seen = [stream.raw.decode()]
    with as_alice.stream(f"/api/tasks/{done['task_id']}/submit/stream", body={"answer": "x"}) as stream:
        stream.until("done")
    seen.append(stream.raw.decode())
    paths = ["/api/simulations", f"/api/simulations/{Simulation.objects.get().pk}", f"/api/professions/{profession.pk}"]
    paths += [f"/api/generations/{done['generation_id']}", f"/simulations/{Simulation.objects.get().pk}"]
    seen += [as_alice.get(path).text for path in paths]
    assert all(hidden not in text for text in seen)


def test_a_brief_added_in_the_middle_of_a_run_makes_no_task_come_twice(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    task = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    Brief.objects.filter(profession=profession).update(order=F("order") + 1)
    first = Brief.objects.get(profession=profession, slug="brief-1")
    Brief.objects.create(
        profession=profession,
        order=1,
        slug="inserted",
        title="Inserted",
        time_limit_minutes=5,
        description="PLAN",
        authored_text="Inserted.",
        expert_answer="EXPERT",
    )
    titles = [first.title]
    while "id" in task:
        submitted = as_alice.post(f"/api/tasks/{task['id']}/submit", {"answer": "x"}).json()
        task = submitted.get("next_task", {})
        titles += [task["title"]] if task else []
    assert titles == ["Bed number 1", "Inserted", "Bed number 2", "Bed number 3"]


def test_the_first_token_is_shown_at_once_and_those_that_follow_fast_come_together(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=("First", *[" more"] * 199), tokens_per_second=400, hold_after=1)
    with as_alice.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as stream:
        shown = stream.until("token")
        assert text_of(shown) == "First"
        provider.release()
        rest = stream.until("done")
    assert text_of(rest) == " more" * 199
    # Half a second of text, looked at every 50 ms.
    assert len(rest) <= 30
