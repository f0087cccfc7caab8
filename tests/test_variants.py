"""Variants: up to four models write one brief at once, for staff."""

from collections.abc import Iterator
from typing import Any

import pytest

from accounts.models import User
from accounts.tokens import create_token
from generation.models import Generation
from professions import variants
from professions.models import Brief, Profession, Variant
from tests.client import Client, shown_text
from tests.conftest import Server
from tests.fake_openai import MODELS, Behaviour, Ending, FakeOpenAI, Refusal
from web.problems import Conflict

Columns = dict[int, list[dict[str, Any]]]


@pytest.fixture
def teacher(transactional_db: None) -> User:
    return User.objects.create_superuser("teacher")


@pytest.fixture
def as_teacher(server: Server, teacher: User) -> Iterator[Client]:
    with Client(server.url, token=create_token(teacher)) as client:
        yield client


@pytest.fixture
def brief(profession: Profession) -> Brief:
    return profession.ordered_briefs[0]


def by_column(events: list[dict[str, Any]]) -> Columns:
    columns: Columns = {}
    for event in events:
        columns.setdefault(event["data"]["variant"], []).append(event)
    return columns


def test_four_models_write_at_once_and_one_that_is_not_allowed_disturbs_nobody(
    as_teacher: Client, brief: Brief, provider: FakeOpenAI
) -> None:
    provider.route(Behaviour(status=Refusal.NO_ACCESS), model=MODELS[1])
    provider.route(Behaviour(ending=Ending.RESET, after_tokens=3), model=MODELS[2])
    with as_teacher.stream("/api/variants/stream", body={"brief_id": brief.pk}) as stream:
        assert stream.response.status_code == 200
        columns = by_column(list(stream))

    assert sorted(columns) == [1, 2, 3, 4]
    assert [columns[number][0]["data"]["model"] for number in (1, 2, 3, 4)] == [*MODELS, MODELS[0]]
    ends = [columns[number][-1] for number in (1, 2, 3, 4)]
    assert [end["type"] for end in ends] == ["done", "variantError", "variantError", "done"]
    assert [ends[1]["data"]["code"], ends[2]["data"]["code"]] == ["model_not_available", "broken_stream"]
    assert ends[1]["data"]["detail"] == "This model is not available with the keys of this site."
    for number in (1, 4):
        done = columns[number][-1]["data"]
        assert shown_text(columns[number]) == done["full_text"]
        assert done["prompt_tokens"] > 0 < done["completion_tokens"]
        assert float(done["cost"]) > 0
        assert 0 <= done["first_token_seconds"] <= done["seconds"]
        stored = as_teacher.get(f"/api/generations/{done['generation_id']}").json()
        assert (stored["status"], stored["text"]) == ("completed", done["full_text"])
    assert len({request.prompt for request in provider.requests}) == 1, "the same wish to each"
    assert "PLAN 1" in provider.requests[0].prompt


def test_the_columns_grow_side_by_side(as_teacher: Client, brief: Brief, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    with as_teacher.stream("/api/variants/stream", body={"brief_id": brief.pk}) as stream:
        growing: set[int] = set()
        while growing != {1, 2, 3, 4}:
            growing.add(stream.until("token")[-1]["data"]["variant"])
        assert not any(request.finished for request in provider.requests)
        provider.release()
        rest = by_column(list(stream))
    assert [rest[number][-1]["data"]["full_text"] for number in (1, 2, 3, 4)] == ["One two."] * 4


def test_the_columns_end_soon_after_the_token_they_were_let_in_by(
    as_teacher: Client, teacher: User, brief: Brief, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    with as_teacher.stream("/api/variants/stream", body={"brief_id": brief.pk}) as stream:
        stream.until("token")
        teacher.end_tokens()
        assert {event["type"] for event in stream} <= {"metadata", "token"}


def test_a_column_goes_on_without_its_reader_and_is_resumed_by_itself(
    as_teacher: Client, brief: Brief, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    body = {"brief_id": brief.pk, "models": [MODELS[0]]}
    with as_teacher.stream("/api/variants/stream", body=body) as stream:
        seen = stream.until("token")
    provider.release()
    path = f"/api/generations/{seen[0]['data']['generation_id']}/stream?after={seen[-1]['id']}"
    rest = as_teacher.events(path)
    assert shown_text(seen + rest) == "One two."
    assert rest[-1]["data"]["model"] == MODELS[0]
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"brief_id": 0}, 404),
        ({"brief_id": "x"}, 400),
        ({"models": ["a"] * 5}, 400),
        ({"models": ["a" * 121]}, 400),
        ({"models": [""]}, 400),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_spent(
    as_teacher: Client, brief: Brief, provider: FakeOpenAI, body: dict[str, object], status: int
) -> None:
    complete = body if "brief_id" in body or not body else {"brief_id": brief.pk, **body}
    assert as_teacher.post("/api/variants/stream", complete).status_code == status
    assert not Variant.objects.exists()
    assert provider.requests == []


def test_a_text_that_was_cut_at_the_length_limit_cannot_be_kept(
    as_teacher: Client, teacher: User, brief: Brief, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(ending=Ending.LENGTH, after_tokens=3)
    body = {"brief_id": brief.pk, "models": [MODELS[0]]}
    assert as_teacher.events("/api/variants/stream", body=body)[-1]["type"] == "done"
    with pytest.raises(Conflict):
        variants.keep(Variant.objects.get(), staff=teacher)
    assert Brief.objects.get(pk=brief.pk).authored_text == brief.authored_text


def test_a_learner_may_not(as_alice: Client, brief: Brief, provider: FakeOpenAI) -> None:
    refused = as_alice.post("/api/variants/stream", {"brief_id": brief.pk})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert provider.requests == []


def test_without_a_key_it_is_said_what_to_do(authored_server: Server, teacher: User, brief: Brief) -> None:
    with Client(authored_server.url, token=create_token(teacher)) as client:
        refused = client.post("/api/variants/stream", {"brief_id": brief.pk})
    assert (refused.status_code, refused.json()["code"]) == (409, "no_model")
    assert "OPENAI_API_KEY" in refused.json()["detail"]
    assert not Generation.objects.exists()
