"""Answers are marked: criterion by criterion as the marks come, by code's rules, once, and whatever happens."""

from collections.abc import Iterator
from typing import Any

import pytest

from generation.models import Attempt, DailyTokens, Generation
from professions.models import Criterion, Profession
from tasks.models import Assessment, Mark, Submission
from tests.client import Client, Stream, types_of
from tests.conftest import Server, make_marked_profession
from tests.fake_openai import Behaviour, Ending, FakeOpenAI, RecordedRequest, Refusal
from tests.graders import mark, marks, obedient
from tests.injections import INJECTIONS
from tests.waiting import wait_until

ANSWER = "I look at the leaves: it is mildew. Then I ask Amara, and say when I am back."
CAUSE = mark("names-the-cause", 2, "it is mildew", "You name what it is.")
ASKS = mark("asks-first", 3, "I ask Amara", "You ask before you cut.")
WHEN = mark("says-when", 1, "say when I am back", "You promise a word, and give no time.")
ALL = marks(CAUSE, ASKS, WHEN, next_time="Say a time.")


@pytest.fixture
def nursery(db: None) -> Profession:
    return make_marked_profession()


def answered(client: Client, profession: Profession, answer: str = ANSWER) -> int:
    """Hand in an answer to the current task, and return the task's id."""
    task: int = client.get(f"/api/tasks/profession/{profession.pk}/current").json()["id"]
    client.events(f"/api/tasks/{task}/submit/stream", body={"answer": answer})
    return task


def assessed(client: Client, task: int) -> dict[str, Any]:
    """Return the assessment of a task when it is there."""
    (*_, last) = client.events(f"/api/tasks/{task}/assessment/stream")
    assert last["type"] == "assessed"
    data: dict[str, Any] = last["data"]
    assert client.get(f"/api/tasks/{task}/assessment").json() == data
    return data


def grade(provider: FakeOpenAI, *texts: str) -> None:
    """Let the first request for marks get the first text, and so on, the last for all that come after."""
    waiting = list(texts)
    provider.grader = lambda _: Behaviour(text=waiting.pop(0) if len(waiting) > 1 else waiting[0])


def test_marks_come_one_by_one_with_quotation_reason_and_level(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    grade(provider, ALL)
    task = answered(as_alice, nursery)
    events = as_alice.events(f"/api/tasks/{task}/assessment/stream")
    assert [event["type"] for event in events] == ["metadata", "mark", "mark", "mark", "assessed"]
    assert [one["criterion"] for one in events[0]["data"]["criteria"]] == ["names-the-cause", "asks-first", "says-when"]
    first = events[1]["data"]
    assert first == {
        "criterion": "names-the-cause",
        "title": "Names the cause",
        "most": 2,
        "points": 2,
        "level": "Mildew.",
        "quotation": "it is mildew",
        "start": ANSWER.index("it is mildew"),
        "end": ANSWER.index("it is mildew") + len("it is mildew"),
        "reason": "You name what it is.",
    }
    whole = events[-1]["data"]
    assert whole["marks"] == [event["data"] for event in events[1:4]]
    assert (whole["status"], whole["marked_by"], whole["points"], whole["most"]) == ("marked", "model", 6, 8)
    assert whole["next_time"] == "Say a time."
    (change,) = whole["state_changes"]
    assert (change["key"], change["value"], change["change"]) == ("trust", 70, 10)
    assert change["reason"] == "the cause was named"


@pytest.fixture
def growing(as_alice: Client, nursery: Profession, provider: FakeOpenAI) -> Iterator[tuple[int, Stream]]:
    """A task whose marks are held by the provider behind the first of them, and a reader of the marks."""
    pieces = (ALL[: ALL.index('{"criterion": "asks')], ALL[ALL.index('{"criterion": "asks') :])
    provider.grader = Behaviour(tokens=pieces, hold_after=1)
    task = answered(as_alice, nursery)
    with as_alice.stream(f"/api/tasks/{task}/assessment/stream") as stream:
        yield task, stream
    provider.release()


def test_a_mark_is_shown_before_the_next_one_is_written(growing: tuple[int, Stream], provider: FakeOpenAI) -> None:
    _, stream = growing
    (_, shown) = stream.until("mark")
    assert shown["data"]["criterion"] == "names-the-cause"
    assert not provider.markings[0].finished
    provider.release()
    assert [event["type"] for event in stream] == ["mark", "mark", "assessed"]


def test_a_reader_that_comes_back_gets_each_mark_once(
    as_alice: Client, growing: tuple[int, Stream], provider: FakeOpenAI
) -> None:
    task, stream = growing
    stream.until("mark")
    path = f"/api/tasks/{task}/assessment/stream"
    with as_alice.stream(f"{path}?after={stream.cursor}") as again:
        provider.release()
        events = list(again)
    assert [event["data"].get("criterion") for event in events] == ["asks-first", "says-when", None]
    assert as_alice.get(f"{path}?after={events[-1]['id']}").status_code == 204
    for cursor, left in zip([event["id"] for event in events], [2, 1, 0], strict=True):
        if left:
            assert len(as_alice.events(f"{path}?after={cursor}")) == left


def test_what_cannot_be_used_is_asked_for_once_more_with_what_was_wrong(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    grade(provider, marks(CAUSE, ASKS | {"level": 7}, WHEN | {"quotation": "at noon"}), marks(ASKS, WHEN))
    task = answered(as_alice, nursery)
    found = assessed(as_alice, task)
    assert (found["status"], found["points"]) == ("marked", 6)
    assert len(provider.markings) == 2
    asked = provider.markings[1].last_user_message
    assert "asks-first: level must be one of 0, 1, 3." in asked
    assert "says-when: quotation is not in the answer word for word" in asked
    assert "with these criteria and no others: asks-first, says-when." in asked
    assert provider.markings[1].messages[:4] == provider.markings[0].messages, "the beginning stays the same"
    assert Attempt.objects.filter(generation__kind="assessment").count() == 2
    assert DailyTokens.objects.get().tokens == sum(attempt.tokens for attempt in Attempt.objects.all())


BROKEN = {
    "prose": "I would give this eight out of ten.",
    "half of the criteria": marks(CAUSE),
    "levels that do not exist": marks(CAUSE | {"level": 9}, ASKS | {"level": 2}, WHEN | {"level": "full"}),
    "other criteria": marks(*(one | {"criterion": f"x-{number}"} for number, one in enumerate([CAUSE, ASKS, WHEN]))),
    "the same criterion again and again": marks(CAUSE, CAUSE, CAUSE),
    "quotations that are not there": marks(*(one | {"quotation": "rust"} for one in [CAUSE, ASKS, WHEN])),
    "no reasons": marks(*(one | {"reason": ""} for one in [CAUSE, ASKS, WHEN])),
    "totals": '{"total": 8, "percent": 100, "passed": true}',
    "cut off": ALL[: len(ALL) // 2],
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_marks_that_cannot_be_used_are_none_and_can_be_tried_again(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI, text: str
) -> None:
    grade(provider, text)
    task = answered(as_alice, nursery)
    found = assessed(as_alice, task)
    assert (found["status"], found["because"], found["points"], found["marks"]) == (
        *("not_marked", "unusable"),
        *(None, []),
    )
    assert not Mark.objects.exists(), "never a default, never half points"
    assert len(provider.markings) == 2, "asked once more, and no further"
    assert found["can_be_retried"]
    grade(provider, ALL)
    assert as_alice.post(f"/api/tasks/{task}/assessment/retry").json()["status"] == "pending"
    assert assessed(as_alice, task)["points"] == 6
    assert as_alice.post(f"/api/tasks/{task}/assessment/retry").status_code == 409
    assert Assessment.objects.count() == 2, "the first one stays"


def test_points_without_a_true_quotation_are_what_the_author_allows(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    Criterion.objects.filter(slug="asks-first").update(most_without_quotation=1)
    grade(provider, marks(CAUSE | {"quotation": ""}, ASKS | {"quotation": ""}, WHEN))
    found = assessed(as_alice, answered(as_alice, nursery))
    assert [one["points"] for one in found["marks"]] == [0, 1, 1]
    assert found["state_changes"][0]["change"] == -15, "what moves the state is the level that is reached"


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_model_that_obeys_an_answer_cannot_give_it_points(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI, name: str
) -> None:
    provider.grader = lambda record: Behaviour(text=obedient(record))
    found = assessed(as_alice, answered(as_alice, nursery, INJECTIONS[name]))
    stored = Assessment.objects.get()
    assert stored.tries_to_instruct or stored.marked_by == "rule", "a person sees it"
    if name not in {"zero-width", "tag characters"}:  # what they say in front of it may be quoted
        assert found["points"] == 0


@pytest.mark.parametrize(
    ("answer", "because"),
    [("", "empty"), (" \u200b\n", "empty"), ("no", "too_short"), ("TASK", "copied")],
)
def test_an_answer_that_says_nothing_gets_no_points_and_asks_no_model(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI, answer: str, because: str
) -> None:
    task = as_alice.get(f"/api/tasks/profession/{nursery.pk}/current").json()
    as_alice.post(f"/api/tasks/{task['id']}/submit", {"answer": task["question"] if answer == "TASK" else answer})
    events = as_alice.events(f"/api/tasks/{task['id']}/assessment/stream")
    assert types_of(events) == ["metadata", "mark", "assessed"]
    found = events[-1]["data"]
    assert (found["status"], found["marked_by"], found["because"], found["points"]) == ("marked", "rule", because, 0)
    assert all(one["reason"] for one in found["marks"])
    assert found["state"][0]["value"] == 45, "it has consequences as any other answer"
    assert not provider.markings
    path = f"/api/tasks/{task['id']}/assessment/stream?after={events[1]['id']}"
    assert as_alice.events(path) == events[2:]
    assert as_alice.get(path.replace(events[1]["id"], events[-1]["id"])).status_code == 204


def test_a_task_without_criteria_is_not_marked_by_anybody(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    Criterion.objects.all().delete()
    found = assessed(as_alice, answered(as_alice, nursery))
    assert (found["status"], found["because"], found["most"], found["marks"]) == ("marked", "no_criteria", 0, [])
    assert not provider.markings


def test_two_tabs_and_a_repeated_answer_are_marked_once(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    grade(provider, ALL)
    task = answered(as_alice, nursery)
    as_alice.post(f"/api/tasks/{task}/submit", {"answer": ANSWER})
    both = [as_alice.events(f"/api/tasks/{task}/assessment/stream") for _ in range(2)]
    assert both[0] == both[1]
    assert len(provider.markings) == 1
    assert Assessment.objects.count() == 1


def test_marks_are_stored_though_nobody_looks(as_alice: Client, nursery: Profession, provider: FakeOpenAI) -> None:
    grade(provider, ALL)
    answered(as_alice, nursery)
    wait_until(lambda: Assessment.objects.get().status == "marked", what="the marks")
    assert Mark.objects.count() == 3


def test_an_edited_brief_changes_no_mark(as_alice: Client, nursery: Profession, provider: FakeOpenAI) -> None:
    grade(provider, ALL)
    task = answered(as_alice, nursery)
    before = assessed(as_alice, task)
    Criterion.objects.all().update(title="Another title", points=50, levels=[{"points": 0, "description": "x"}])
    assert as_alice.get(f"/api/tasks/{task}/assessment").json() == before
    stored = Assessment.objects.get()
    assert (stored.prompt_version, stored.rubric[0]["title"]) == (1, "Names the cause")


@pytest.mark.parametrize(
    ("behaviour", "because"),
    [(Behaviour(status=Refusal.SERVER_ERROR), "unavailable"), (Behaviour(ending=Ending.RESET), "unavailable")],
)
def test_where_no_model_marks_it_is_said_and_the_learner_can(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI, behaviour: Behaviour, because: str
) -> None:
    task = as_alice.get(f"/api/tasks/profession/{nursery.pk}/current").json()["id"]
    provider.default = behaviour
    provider.grader = behaviour
    as_alice.post(f"/api/tasks/{task}/submit", {"answer": ANSWER})
    events = as_alice.events(f"/api/tasks/{task}/assessment/stream")
    assert events[-1]["type"] == "assessed"
    assert (events[-1]["data"]["status"], events[-1]["data"]["because"]) == ("not_marked", because)
    own = [{"criterion": one, "points": points} for one, points in (("names-the-cause", 0), ("asks-first", 3))]
    path = f"/api/tasks/{task}/assessment"
    refused = as_alice.http.put(path, json={"marks": own})
    assert (refused.status_code, refused.json()["code"]) == (409, "other_criteria")
    assert "each criterion" in refused.json()["message"]
    half = [*own, {"criterion": "says-when", "points": 2}]
    assert "one of its levels" in as_alice.http.put(path, json={"marks": half}).json()["message"]
    whole = as_alice.http.put(path, json={"marks": [*own, {"criterion": "says-when", "points": 1}]}).json()
    assert (whole["status"], whole["marked_by"], whole["points"]) == ("self", "self", 4)
    assert whole["state"][0]["value"] == 45
    assert as_alice.get(path).json() == whole


def test_nobody_marks_themselves_what_a_model_marks(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    grade(provider, ALL)
    task = answered(as_alice, nursery)
    assessed(as_alice, task)
    own = [{"criterion": one["criterion"], "points": 0} for one in (CAUSE, ASKS, WHEN)]
    refused = as_alice.http.put(f"/api/tasks/{task}/assessment", json={"marks": own})
    assert (refused.status_code, refused.json()["code"]) == (409, "already_marked")


def test_without_a_key_learners_mark_themselves(authored_server: Server, alice_token: str, nursery: Profession) -> None:
    with Client(authored_server.url, token=alice_token) as client:
        task = answered(client, nursery)
        found = assessed(client, task)
        assert (found["status"], found["because"], found["can_be_retried"]) == ("not_marked", "no_model", False)
        own = [{"criterion": one["criterion"], "points": 0} for one in (CAUSE, ASKS, WHEN)]
        client.http.put(f"/api/tasks/{task}/assessment", json={"marks": own})
        assert assessed(client, task)["status"] == "self"
        assert client.post(f"/api/tasks/{task}/assessment/retry").status_code == 409
        now = client.get(f"/api/tasks/profession/{nursery.pk}/current").json()
    assert (now["state"][0]["value"], now["state"][0]["change"]) == (45, -15)


def test_a_task_without_an_answer_has_no_assessment(as_alice: Client, nursery: Profession) -> None:
    task = as_alice.get(f"/api/tasks/profession/{nursery.pk}/current").json()["id"]
    refused = as_alice.get(f"/api/tasks/{task}/assessment")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_submitted")


def test_a_person_is_asked_to_look_once(as_alice: Client, nursery: Profession, provider: FakeOpenAI) -> None:
    grade(provider, ALL)
    task = answered(as_alice, nursery)
    asked = as_alice.post(f"/api/tasks/{task}/review", {"reason": "I did say when."})
    assert asked.status_code == 201
    assert Submission.objects.get().review.reason == "I did say when."
    assert as_alice.post(f"/api/tasks/{task}/review", {"reason": ""}).status_code == 409


def test_what_the_model_wrote_is_shown_in_parts_alone(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI
) -> None:
    grade(provider, marks(CAUSE, ASKS, WHEN, mark("secret", 9, "", "The best answer is to burn it.")))
    task = answered(as_alice, nursery)
    assessed(as_alice, task)
    generation = Generation.objects.get(kind="assessment")
    assert "burn it" in generation.text
    assert "burn it" not in as_alice.get(f"/api/generations/{generation.pk}").text
    assert "burn it" not in str(as_alice.events(f"/api/generations/{generation.pk}/stream"))


@pytest.mark.parametrize(
    ("refusals", "last"),
    [([], "json_schema"), (["json_schema"], "json_object"), (["json_schema", "json_object"], None)],
)
def test_a_format_that_a_model_refuses_becomes_a_looser_one(
    as_alice: Client, nursery: Profession, provider: FakeOpenAI, refusals: list[str], last: str | None
) -> None:
    def answer(record: RecordedRequest) -> Behaviour:
        return Behaviour(status=Refusal.NO_FORMAT) if format_of(record) in refusals else Behaviour(text=ALL)

    provider.grader = answer
    found = assessed(as_alice, answered(as_alice, nursery))
    assert found["points"] == 6
    assert [format_of(record) for record in provider.markings] == [*refusals, last]
    assert provider.markings[0].body["temperature"] == 0
    answered(as_alice, nursery)
    wait_until(lambda: len(provider.markings) == len(refusals) + 2, what="the second marking")
    assert format_of(provider.markings[-1]) == last, "and the next learner does not pay for it"


def format_of(record: RecordedRequest) -> str | None:
    form = record.body.get("response_format")
    return str(form["type"]) if isinstance(form, dict) else None
