"""A provider's bad day: every fault ends in a clear error, the answer is kept, and a retry works."""

import pytest

from generation.models import Generation
from professions.models import Profession
from tasks.models import Submission
from tests.client import Client, text_of
from tests.conftest import KEY, ServerStarter
from tests.fake_openai import Behaviour, Ending, FakeOpenAI, Refusal

BROKEN = Behaviour(after_tokens=3)
FAULTS = {
    "a refused key": (Behaviour(status=Refusal.BAD_KEY), "provider_unauthorized"),
    "a model that is not allowed": (Behaviour(status=Refusal.NO_ACCESS), "model_not_available"),
    "a rate limit": (Behaviour(status=Refusal.RATE_LIMIT, retry_after=1), "rate_limited"),
    "no quota left": (Behaviour(status=Refusal.NO_QUOTA), "quota_exhausted"),
    "a server error": (Behaviour(status=Refusal.SERVER_ERROR), "provider_error"),
    "an overload": (Behaviour(status=Refusal.OVERLOADED), "provider_error"),
    "a conversation that is too long": (Behaviour(status=Refusal.CONTEXT_LENGTH), "context_too_long"),
    "a filter on the prompt": (Behaviour(status=Refusal.CONTENT_FILTER), "content_filtered"),
    "a filter on the text": (Behaviour(ending=Ending.CONTENT_FILTER, after_tokens=3), "content_filtered"),
    "a slow start": (Behaviour(first_token_delay=30), "provider_timeout"),
    "silence from the beginning": (Behaviour(ending=Ending.SILENCE), "provider_timeout"),
    "silence in the middle": (Behaviour(ending=Ending.SILENCE, after_tokens=3), "provider_timeout"),
    "comments only": (Behaviour(ending=Ending.COMMENTS_ONLY), "provider_timeout"),
    "comments instead of the rest": (Behaviour(ending=Ending.COMMENTS_ONLY, after_tokens=3), "provider_timeout"),
    "a reset before the first token": (Behaviour(ending=Ending.RESET), "broken_stream"),
    "a reset in the middle": (Behaviour(ending=Ending.RESET, after_tokens=3), "broken_stream"),
    "a clean end without a finish_reason": (Behaviour(ending=Ending.NO_FINISH_REASON, after_tokens=3), "broken_stream"),
    "an empty stream": (Behaviour(ending=Ending.NO_FINISH_REASON), "broken_stream"),
    "an error object in the stream": (Behaviour(ending=Ending.ERROR_OBJECT, after_tokens=3), "broken_stream"),
    "broken JSON": (Behaviour(ending=Ending.BROKEN_JSON, after_tokens=3), "broken_stream"),
    "an HTML page with status 200": (Behaviour(ending=Ending.HTML), "broken_stream"),
    "a text of no tokens": (Behaviour(tokens=()), "broken_stream"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_in_an_error_event_and_a_retry_works(
    as_alice: Client, profession: Profession, provider: FakeOpenAI, name: str
) -> None:
    behaviour, code = FAULTS[name]
    task = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    path = f"/api/tasks/{task['id']}/submit/stream"
    provider.script(behaviour)

    events = as_alice.events(path, body={"answer": "mulch"})

    assert [event["type"] for event in events].count("error") == 1
    error = events[-1]["data"]
    assert (events[-1]["type"], error["code"]) == ("error", code)
    assert set(error) == {"code", "message", "detail", "retryable", "generation_id"}
    assert KEY not in str(events)
    failed = Generation.objects.get(pk=error["generation_id"])
    assert (failed.status, failed.fault) == ("failed", code)
    assert failed.fault_detail
    assert KEY not in failed.fault_detail
    assert Submission.objects.get().answer == "mulch"

    again = as_alice.events(path, body={"answer": "mulch"})
    assert (again[-1]["type"], again[-1]["data"]["full_text"]) == ("done", provider.requests[-1].text_sent)
    assert text_of(again) == provider.requests[-1].text_sent
    assert len(provider.requests) == 3, "no hidden retry"
    assert Submission.objects.count() == 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_in_a_json_error_where_nothing_is_streamed_and_a_retry_works(
    as_alice: Client, profession: Profession, provider: FakeOpenAI, name: str
) -> None:
    behaviour, code = FAULTS[name]
    provider.script(behaviour)
    path = f"/api/tasks/profession/{profession.pk}/current"
    refused = as_alice.get(path)
    assert (refused.status_code, refused.json()["code"]) == (502, code)
    assert set(refused.json()) == {"code", "detail", "message"}
    assert as_alice.get(path).json()["question"] == provider.requests[-1].text_sent


def test_what_was_shown_before_a_fault_is_withdrawn_when_the_text_is_written_again(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    provider.script(Behaviour(ending=Ending.RESET, after_tokens=3), Behaviour(text="Another text."))
    failed = as_alice.events(path)
    as_alice.events(path)
    resumed = as_alice.events(f"{path}?after={failed[1]['id']}")
    assert [event["type"] for event in resumed] == ["reset", "token", "done"]
    assert text_of(resumed) == "Another text."


def test_a_key_in_the_providers_reason_is_taken_out(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.script(Behaviour(status=Refusal.BAD_KEY))
    as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    detail = Generation.objects.get().fault_detail
    assert "Incorrect API key provided" in detail
    assert KEY[:5] not in detail
    assert KEY[-4:] not in detail


def test_a_text_cut_at_the_length_limit_is_kept_and_marked(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.script(Behaviour(ending=Ending.LENGTH, after_tokens=5))
    done = as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")[-1]
    assert done["type"] == "done"
    assert Generation.objects.get().finish_reason == "length"


def test_a_text_split_at_awkward_bytes_arrives_whole(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    text = "Роза 🌹 и 👩‍🌾\n\ndata: [DONE]\n" * 20
    provider.script(Behaviour(text=text, split_frames=True))
    events = as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert text_of(events) == events[-1]["data"]["full_text"] == text


def test_ten_thousand_tokens_arrive_whole_with_growing_cursors_and_few_extra_bytes(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    tokens = tuple(f"слово {number:05d} " + "x" * 90 for number in range(10_000))
    provider.script(Behaviour(tokens=tokens))
    with as_alice.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as stream:
        events = list(stream)
    assert text_of(events) == "".join(tokens) == events[-1]["data"]["full_text"]
    positions = [tuple(map(int, event["id"].split("-")[1:])) for event in events]
    assert positions == sorted(set(positions))
    once = len("".join(tokens).encode())
    assert len(stream.raw) < 2.2 * once, "the text once in tokens and once in done"


def test_a_text_that_never_ends_is_cut_off_by_the_clock(
    start_own_server: ServerStarter,
    transactional_db: None,
    profession: Profession,
    provider: FakeOpenAI,
    alice_token: str,
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, LLM_TIMEOUT_SECONDS="2")
    provider.default = Behaviour(tokens=("word ",) * 1000, tokens_per_second=10)
    with Client(server.url, token=alice_token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert (events[-1]["type"], events[-1]["data"]["code"]) == ("error", "provider_timeout")
    provider.wait_for(lambda fake: fake.requests[0].disconnected)
    server.stop()
