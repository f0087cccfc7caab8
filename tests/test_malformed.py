"""Frames that are JSON and not the protocol: each is a fault or a whole text, never a loop that pays again."""

from collections.abc import Iterator

import pytest

from generation.models import Attempt, Generation
from professions.models import Profession
from tests.client import Client, shown_text, text_of
from tests.conftest import KEY, ServerStarter
from tests.raw_provider import DONE, Raw, RawProvider, frame, running_provider

START = {"choices": [{"index": 0, "delta": {"content": "One "}}]}
END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
BREAKING = {
    "a choice that is nothing": {"choices": [None]},
    "content that is a number": {"choices": [{"delta": {"content": 2}}]},
    "a delta that is a list": {"choices": [{"delta": ["two"]}]},
    "choices that are a number": {"choices": 5},
    "a frame that is a list": [1, 2],
}
HARMLESS = {
    "negative usage": {"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 2}},
    "usage beyond every column": {"choices": [], "usage": {"prompt_tokens": 1e30, "completion_tokens": 2**70}},
    "usage in words": {"choices": [], "usage": {"prompt_tokens": "many"}},
    "half a surrogate pair": {"choices": [{"delta": {"content": "\ud83d"}}]},
    "a NUL": {"choices": [{"delta": {"content": "\0"}}]},
}


def answer(*frames: object) -> Raw:
    return Raw([*(frame(one) for one in frames), DONE])


@pytest.fixture(scope="module")
def odd_provider() -> Iterator[RawProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def odd_url(start_server: ServerStarter, odd_provider: RawProvider) -> Iterator[str]:
    server = start_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=odd_provider.base_url)
    yield server.url
    server.stop()


@pytest.mark.parametrize("name", BREAKING)
def test_a_frame_of_another_shape_is_a_fault_of_who_sent_it(
    odd_url: str, odd_provider: RawProvider, transactional_db: None, profession: Profession, alice_token: str, name: str
) -> None:
    odd_provider.always(answer(START, BREAKING[name], END))
    with Client(odd_url, token=alice_token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert events[-1]["data"]["authored_because"] == "no_candidate"
    assert shown_text(events) == Generation.objects.get().text == profession.ordered_briefs[0].authored_text
    assert set(Attempt.objects.values_list("fault", flat=True)) == {"broken_stream"}
    assert len(odd_provider.asked) == Attempt.objects.count() == 3


@pytest.mark.parametrize("name", HARMLESS)
def test_what_cannot_be_stored_is_left_out_and_the_text_arrives(
    odd_url: str, odd_provider: RawProvider, transactional_db: None, profession: Profession, alice_token: str, name: str
) -> None:
    odd_provider.always(answer(START, HARMLESS[name], END))
    with Client(odd_url, token=alice_token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert events[-1]["type"] == "done"
    assert text_of(events) == events[-1]["data"]["full_text"] == Generation.objects.get().text
    assert text_of(events).startswith("One ")
    assert len(odd_provider.asked) == 1
