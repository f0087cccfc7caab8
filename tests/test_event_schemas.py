"""The events that come when something breaks, which no fuzzer reaches, against the OpenAPI schema."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from accounts.models import User
from accounts.tokens import create_token
from professions.models import Brief, Profession
from tests.client import Client
from tests.conftest import Server
from tests.fake_openai import MODELS, Behaviour, Ending, FakeOpenAI

Schema = dict[str, Any]


@pytest.fixture
def schema(server: Server) -> Schema:
    with Client(server.url) as client:
        found: Schema = client.get("/api/schema?format=json").json()
        return found


def assert_as_described(schema: Schema, path: str, method: str, events: list[dict[str, Any]]) -> None:
    content = schema["paths"][path][method]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    data = content["properties"]["data"]["contentSchema"]
    validator = Draft202012Validator({**data, "components": schema["components"]})
    for event in events:
        validator.validate({"type": event["type"], "data": event["data"]})


def test_an_error_is_as_described(
    as_alice: Client, profession: Profession, provider: FakeOpenAI, schema: Schema
) -> None:
    Brief.objects.update(authored_text="")
    provider.default = Behaviour(ending=Ending.RESET, after_tokens=3)
    events = as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert {"metadata", "reset", "error"} <= {event["type"] for event in events}
    assert_as_described(schema, "/api/tasks/profession/{profession_id}/current/stream", "get", events)


def test_a_text_by_an_author_is_as_described(
    as_alice: Client, profession: Profession, provider: FakeOpenAI, schema: Schema
) -> None:
    provider.default = Behaviour(ending=Ending.HTML)
    events = as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert events[-1]["data"]["authored_because"] == "no_candidate"
    assert_as_described(schema, "/api/tasks/profession/{profession_id}/current/stream", "get", events)


def test_a_column_that_fails_beside_one_that_does_not_is_as_described(
    server: Server, profession: Profession, provider: FakeOpenAI, schema: Schema
) -> None:
    provider.route(Behaviour(ending=Ending.RESET, after_tokens=3), model=MODELS[1])
    teacher = User.objects.create_superuser("teacher")
    body = {"brief_id": profession.ordered_briefs[0].pk, "models": [MODELS[0], MODELS[1]]}
    with Client(server.url, token=create_token(teacher)) as client:
        events = client.events("/api/variants/stream", body=body)
    assert {"metadata", "token", "done", "variantError"} <= {event["type"] for event in events}
    assert_as_described(schema, "/api/variants/stream", "post", events)
    del events[0]["data"]["variant"]
    with pytest.raises(ValidationError):
        assert_as_described(schema, "/api/variants/stream", "post", events)
