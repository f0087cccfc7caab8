"""Leaving, coming back, two tabs: nothing is lost, nothing is paid for twice."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from generation.cursor import Cursor, event_id, parse_event_id
from generation.models import CandidateHealth, Generation
from professions.models import Profession
from tasks.models import Simulation, Submission, Task
from tests.client import Client, text_of, types_of
from tests.fake_openai import Behaviour, FakeOpenAI, Refusal
from tests.waiting import wait_until
from web.problems import Problem

A, B = uuid.UUID("1" * 32), uuid.UUID("2" * 32)
TOKENS = ("Amara ", "asks: ", "мы ", "🌹 ", "data: x\n\n", "id: 7\n", "end.")
TEXT = "".join(TOKENS)


def current(profession: Profession) -> str:
    return f"/api/tasks/profession/{profession.pk}/current/stream"


def test_leaving_after_the_first_token_leaves_a_completed_text(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=1)
    with as_alice.stream(current(profession)) as stream:
        stream.until("token")
    provider.release()
    wait_until(lambda: Generation.objects.get().is_final, what="the end of the text nobody reads")
    assert Generation.objects.get().text == TEXT
    assert not provider.requests[0].disconnected
    assert text_of(as_alice.events(current(profession))) == TEXT
    assert len(provider.requests) == 1


@pytest.mark.parametrize("twice", ["current", "submit"])
def test_two_simultaneous_first_requests_cause_one_call_to_the_provider(
    as_alice: Client, profession: Profession, provider: FakeOpenAI, twice: str
) -> None:
    provider.default = Behaviour(tokens=TOKENS, tokens_per_second=50)
    path, body = current(profession), None
    if twice == "submit":
        task = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
        path, body = f"/api/tasks/{task['id']}/submit/stream", {"answer": "mulch"}
    before = len(provider.requests)
    with ThreadPoolExecutor(8) as tabs:
        streams = list(tabs.map(lambda _: as_alice.events(path, body=body), range(8)))
    assert {text_of(events) for events in streams} == {TEXT}
    assert len(provider.requests) == before + 1
    assert Simulation.objects.count() == 1
    assert Submission.objects.count() == (twice == "submit")


def test_a_stream_resumed_at_every_cursor_gives_every_later_event_once(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=TOKENS, tokens_per_second=15)
    whole = as_alice.events(current(profession))
    cursors = [event["id"] for event in whole]
    assert len(set(cursors)) == len(cursors) > 4
    for position, cursor in enumerate(cursors):
        for rest in (
            as_alice.stream(f"{current(profession)}?after={cursor}"),
            as_alice.stream(current(profession), **{"Last-Event-ID": cursor}),
            as_alice.stream(f"/api/generations/{whole[0]['data']['generation_id']}/stream?after={cursor}"),
        ):
            with rest as stream:
                if position == len(cursors) - 1:
                    assert stream.response.status_code == 204
                    continue
                events = list(stream)
            seen = text_of(whole[: position + 1]) + text_of(events)
            assert seen == TEXT
            assert events[-1]["type"] == "done"
            assert "metadata" not in types_of(events)


def test_five_drops_in_one_stream_leave_no_gap_and_no_duplicate(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    tokens = tuple(f"{number} " for number in range(120))
    provider.default = Behaviour(tokens=tokens, tokens_per_second=60)
    text, cursor, drops = "", "", 0
    while True:
        with as_alice.stream(current(profession), **({"Last-Event-ID": cursor} if cursor else {})) as stream:
            for event in stream:
                text += text_of([event])
                if drops < 5 and len(text) > 60 * (drops + 1):
                    drops += 1
                    break
                if event["type"] == "done":
                    assert text == "".join(tokens) == event["data"]["full_text"]
                    assert drops == 5
                    assert len(provider.requests) == 1
                    return
            cursor = stream.cursor


def test_a_second_tab_sees_the_same_text_from_its_beginning(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=3)
    with as_alice.stream(current(profession)) as first, as_alice.stream(current(profession)) as second:
        seen_first = first.until("token")
        seen_second = second.until("token")
        provider.release()
        assert text_of(seen_first + list(first)) == text_of(seen_second + list(second)) == TEXT
    assert len(provider.requests) == 1


def test_the_same_answer_again_gives_the_same_text_and_another_answer_is_refused(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    task = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    path = f"/api/tasks/{task['id']}/submit"
    first = as_alice.post(path, {"answer": "mulch"}).json()
    assert as_alice.post(path, {"answer": "mulch"}).json() == first
    again = as_alice.events(f"{path}/stream", body={"answer": "mulch"})
    assert text_of(again) == first["next_task"]["question"]
    other = as_alice.post(path, {"answer": "prune"})
    assert (other.status_code, other.json()["code"]) == (409, "already_submitted")
    refused = as_alice.post(f"{path}/stream", {"answer": "prune"})
    assert (refused.status_code, refused.json()["code"]) == (409, "already_submitted")
    assert len(provider.requests) == 2
    assert [(row.task.order, row.answer) for row in Submission.objects.all()] == [(1, "mulch")]


@pytest.mark.parametrize("moment", ["before the first token", "in the middle"])
def test_cancelling_closes_the_providers_socket_and_keeps_what_was_written(
    as_alice: Client, profession: Profession, provider: FakeOpenAI, moment: str
) -> None:
    written = 0 if moment == "before the first token" else 3
    provider.default = Behaviour(tokens=TOKENS, hold_after=written)
    with as_alice.stream(current(profession)) as stream:
        generation_id = stream.until("metadata")[0]["data"]["generation_id"]
        provider.wait_for(lambda fake: bool(fake.requests) and fake.requests[0].held)
        events = stream.until("token") if written else []
        cancelled = as_alice.post(f"/api/generations/{generation_id}/cancel").json()
        events += list(stream)
    provider.wait_for(lambda fake: fake.requests[0].disconnected)
    assert (events[-1]["type"], events[-1]["data"]["code"]) == ("error", "cancelled")
    assert cancelled["status"] == "cancelled"
    assert cancelled["text"] == "".join(TOKENS[:written]) == text_of(events)
    assert as_alice.post(f"/api/generations/{generation_id}/cancel").json() == cancelled


def test_cancelling_what_is_complete_changes_nothing(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    task = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    cancelled = as_alice.post(f"/api/generations/{task['generation_id']}/cancel").json()
    assert (cancelled["status"], cancelled["text"]) == ("completed", task["question"])


def test_a_stopped_text_can_be_answered_or_written_again(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.script(Behaviour(tokens=TOKENS, hold_after=2), Behaviour(tokens=TOKENS))
    with as_alice.stream(current(profession)) as stream:
        generation_id = stream.until("metadata")[0]["data"]["generation_id"]
        stream.until("token")
        provider.wait_for(lambda fake: fake.requests[0].held)
        as_alice.post(f"/api/generations/{generation_id}/cancel")
        stopped = list(stream)
    cursor = event_id(Generation.objects.get().pk, Cursor(1, 1))
    resumed = as_alice.events(f"{current(profession)}?after={cursor}")
    assert types_of(resumed) == ["token", "error"], "coming back is not asking for another text"
    task = Task.objects.get()
    assert task.can_be_answered
    assert as_alice.post(f"/api/simulations/{task.simulation_id}/rewrite").status_code == 200
    again = as_alice.events(current(profession))
    assert text_of(again) == TEXT
    late = as_alice.events(f"{current(profession)}?after={stopped[-1]['id']}")
    assert types_of(late) == ["reset", "token", "done"]
    assert text_of(late) == TEXT


@pytest.mark.parametrize(
    "value", ["", "1", "1-2", "a-b-c", f"{A.hex[:12]}-1-", f"{A.hex[:12]}-1-9999999999", "f" * 12 + "-١-٢"]
)
def test_a_cursor_that_is_none_of_ours_is_refused_with_what_to_do(value: str) -> None:
    with pytest.raises(Problem, match="Send the id of an event unchanged"):
        parse_event_id(value, A)


def test_cursors_are_read_back_as_written() -> None:
    assert parse_event_id(event_id(A, Cursor(3, 1200)), A) == Cursor(3, 1200)
    assert parse_event_id(event_id(A, Cursor(3, 1200)), B) is None


def test_a_cursor_of_another_task_is_no_position_in_this_one(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.script(Behaviour(text="The first task, longer than the second."), Behaviour(text="The second."))
    first = as_alice.events(current(profession))
    as_alice.events(f"/api/tasks/{first[0]['data']['id']}/submit/stream", body={"answer": "mulch"})
    for event in first:
        events = as_alice.events(current(profession), **{"Last-Event-ID": event["id"]})
        assert types_of(events) == ["metadata", "token", "done"]
        assert text_of(events) == "The second."


def test_repeating_an_old_submission_leaves_a_stopped_and_answered_text_alone(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.script(Behaviour(), Behaviour(tokens=("Only ", "this."), hold_after=1), Behaviour())
    first = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    path = f"/api/tasks/{first['id']}/submit/stream"
    with as_alice.stream(path, body={"answer": "mulch"}) as stream:
        metadata = stream.until("token")[0]["data"]
        as_alice.post(f"/api/generations/{metadata['generation_id']}/cancel")
        list(stream)
    as_alice.events(f"/api/tasks/{metadata['id']}/submit/stream", body={"answer": "prune"})
    repeated = as_alice.events(path, body={"answer": "mulch"})
    assert (types_of(repeated), text_of(repeated)) == (["metadata", "token", "error"], "Only ")
    assert len(provider.requests) == 3
    assert Generation.objects.get(pk=metadata["generation_id"]).status == "cancelled"


def test_stopping_what_nobody_has_begun_to_write_ends_it(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    started = as_alice.post("/api/simulations", {"profession_id": profession.pk}).json()
    generation_id = started["tasks"][0]["generation_id"]
    assert as_alice.post(f"/api/generations/{generation_id}/cancel").json()["status"] == "cancelled"
    (event,) = as_alice.events(
        f"/api/generations/{generation_id}/stream?after=" + event_id(uuid.UUID(generation_id), Cursor(0, 0))
    )
    assert (event["type"], event["data"]["code"]) == ("error", "cancelled")
    assert provider.requests == []


def test_stopping_ten_times_at_once_is_stopping_once(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=("Only ", "this."), hold_after=1)
    with as_alice.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as stream:
        generation = stream.until("token")[0]["data"]["generation_id"]
        with ThreadPoolExecutor(10) as threads:
            path = f"/api/generations/{generation}/cancel"
            answers = list(threads.map(lambda _: as_alice.post(path), range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["status"] for answer in answers} == {"cancelled"}


def test_a_stand_in_that_is_stopped_is_kept_as_the_authors_and_asked_again_of_the_model(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    profession.briefs.update(authored_text="word " * 3000)
    provider.default = Behaviour(status=Refusal.SERVER_ERROR)
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    with as_alice.stream(path) as stream:
        generation = stream.until("token")[0]["data"]["generation_id"]
        as_alice.post(f"/api/generations/{generation}/cancel")
    stopped = as_alice.get(f"/api/generations/{generation}").json()
    assert (stopped["status"], stopped["source"], stopped["authored_because"]) == (
        "cancelled",
        "authored",
        "no_candidate",
    )
    assert ("word " * 3000).startswith(stopped["text"])
    CandidateHealth.objects.all().delete()
    provider.default = Behaviour(text="By the model.")
    as_alice.post(f"/api/simulations/{Task.objects.get().simulation_id}/rewrite")
    assert text_of(as_alice.events(path)) == "By the model."
