"""A provider's bad day is not the learner's: whatever fails, another candidate writes, and at last the author."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.utils import timezone

from generation.models import Attempt, CandidateHealth, Generation
from generation.upstream.candidates import key_id
from professions.models import Profession
from tasks.models import Submission
from tests.client import Client, shown_text, text_of, types_of
from tests.conftest import KEY, Server, ServerStarter, awake
from tests.fake_openai import MODELS, Behaviour, Ending, FakeOpenAI, Refusal

SECOND_KEY = "sk-test-zyxwvutsrqponmlkjihgfedcba987654"
# Whom a fault of the first key with the first model speaks against, as (number of the key, model).
NOBODY: set[tuple[int, str]] = set()
CANDIDATE = {(1, MODELS[0])}
ONE_KEY = {(1, model) for model in MODELS}


@dataclass(frozen=True)
class Case:
    """A fault, its code, and who cools down for how many seconds."""

    behaviour: Behaviour
    code: str
    left_alone: set[tuple[int, str]]
    seconds: float = 0


FAULTS = {
    "a refused key": Case(Behaviour(status=Refusal.BAD_KEY), "provider_unauthorized", ONE_KEY, 600),
    "a model that is not allowed": Case(Behaviour(status=Refusal.NO_ACCESS), "model_not_available", CANDIDATE, 600),
    "a rate limit": Case(Behaviour(status=Refusal.RATE_LIMIT, retry_after=42), "rate_limited", CANDIDATE, 42),
    "a rate limit without a time": Case(Behaviour(status=Refusal.RATE_LIMIT), "rate_limited", CANDIDATE, 10),
    "no quota left": Case(Behaviour(status=Refusal.NO_QUOTA), "quota_exhausted", ONE_KEY, 3600),
    "a server error": Case(Behaviour(status=Refusal.SERVER_ERROR), "provider_error", CANDIDATE, 5),
    "an overload": Case(Behaviour(status=Refusal.OVERLOADED), "provider_error", CANDIDATE, 5),
    "a conversation that is too long": Case(Behaviour(status=Refusal.CONTEXT_LENGTH), "context_too_long", NOBODY),
    "a filter on the prompt": Case(Behaviour(status=Refusal.CONTENT_FILTER), "content_filtered", NOBODY),
    "a filter on the text": Case(Behaviour(ending=Ending.CONTENT_FILTER, after_tokens=3), "content_filtered", NOBODY),
    "a slow start": Case(Behaviour(first_token_delay=30), "provider_timeout", CANDIDATE, 5),
    "silence from the beginning": Case(Behaviour(ending=Ending.SILENCE), "provider_timeout", CANDIDATE, 5),
    "silence in the middle": Case(Behaviour(ending=Ending.SILENCE, after_tokens=3), "provider_timeout", CANDIDATE, 5),
    "comments only": Case(Behaviour(ending=Ending.COMMENTS_ONLY), "provider_timeout", CANDIDATE, 5),
    "comments instead of the rest": Case(
        Behaviour(ending=Ending.COMMENTS_ONLY, after_tokens=3), "provider_timeout", CANDIDATE, 5
    ),
    "a reset before the first token": Case(Behaviour(ending=Ending.RESET), "broken_stream", CANDIDATE, 5),
    "a reset in the middle": Case(Behaviour(ending=Ending.RESET, after_tokens=3), "broken_stream", CANDIDATE, 5),
    "a clean end without a finish_reason": Case(
        Behaviour(ending=Ending.NO_FINISH_REASON, after_tokens=3), "broken_stream", CANDIDATE, 5
    ),
    "an empty stream": Case(Behaviour(ending=Ending.NO_FINISH_REASON), "broken_stream", CANDIDATE, 5),
    "an error object in the stream": Case(
        Behaviour(ending=Ending.ERROR_OBJECT, after_tokens=3), "broken_stream", CANDIDATE, 5
    ),
    "broken JSON": Case(Behaviour(ending=Ending.BROKEN_JSON, after_tokens=3), "broken_stream", CANDIDATE, 5),
    "an HTML page with status 200": Case(Behaviour(ending=Ending.HTML), "broken_stream", CANDIDATE, 5),
    "a text of no tokens": Case(Behaviour(tokens=()), "broken_stream", CANDIDATE, 5),
}


@pytest.fixture(scope="module")
def _two_keys(_start_shared_server: ServerStarter, _provider: FakeOpenAI) -> Iterator[Server]:
    keys = f"{KEY},{SECOND_KEY}"
    limits = {"LLM_FIRST_TOKEN_SECONDS": "1.5", "LLM_IDLE_SECONDS": "1.5", "LLM_MAX_RETRIES": "3"}
    server = _start_shared_server(OPENAI_API_KEYS=keys, OPENAI_BASE_URL=_provider.base_url, **limits)
    yield server
    server.stop()


@pytest.fixture
def with_two_keys(_two_keys: Server, provider: FakeOpenAI, alice_token: str) -> Iterator[Client]:
    """Alice, on a server that has two keys for each of three models."""
    with awake(_two_keys), Client(_two_keys.url, token=alice_token) as client:
        yield client


def left_alone() -> dict[tuple[int, str], float]:
    """Return for how many seconds from now each candidate cools down, by number of the key and model."""
    numbers = {key_id(KEY): 1, key_id(SECOND_KEY): 2}
    now = timezone.now()
    return {
        (numbers[row.key_id], row.model): (row.cooling_until - now).total_seconds()
        for row in CandidateHealth.objects.all()
        if row.cooling_until is not None
    }


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_followed_by_a_whole_text_and_only_whom_it_speaks_against_is_cooling_down(
    with_two_keys: Client, transactional_db: None, profession: Profession, provider: FakeOpenAI, name: str
) -> None:
    case = FAULTS[name]
    provider.script(case.behaviour)

    events = with_two_keys.events(f"/api/tasks/profession/{profession.pk}/current/stream")

    assert types_of(events)[-1] == "done"
    assert "error" not in types_of(events)
    assert shown_text(events) == events[-1]["data"]["full_text"] == provider.requests[-1].text_sent
    assert KEY not in str(events)
    assert len(provider.requests) == 2, "one try each, and no hidden one"
    generation = Generation.objects.get()
    assert (generation.status, generation.source, generation.text) == ("completed", "model", shown_text(events))
    failed, completed = Attempt.objects.order_by("number")
    assert (failed.outcome, failed.fault, failed.candidate) == ("failed", case.code, f"openai key 1 {MODELS[0]}")
    assert failed.detail
    assert KEY not in failed.detail
    second = 2 if (2, MODELS[0]) not in case.left_alone else 1
    assert (completed.outcome, completed.candidate) == ("completed", f"openai key {second} {MODELS[0]}")
    assert set(left_alone()) == case.left_alone
    assert all(case.seconds - 4 < seconds <= case.seconds for seconds in left_alone().values())


@pytest.mark.parametrize("name", FAULTS)
def test_where_nobody_writes_the_authors_text_stands_in(
    with_two_keys: Client, transactional_db: None, profession: Profession, provider: FakeOpenAI, name: str
) -> None:
    task = with_two_keys.get(f"/api/tasks/profession/{profession.pk}/current").json()
    provider.default = FAULTS[name].behaviour

    events = with_two_keys.events(f"/api/tasks/{task['id']}/submit/stream", body={"answer": "mulch"})

    second = profession.ordered_briefs[1].authored_text
    done = events[-1]["data"]
    assert types_of(events)[-1] == "done"
    assert shown_text(events) == second
    assert (done["full_text"], done["source"], done["authored_because"]) == (second, "authored", "no_candidate")
    generation = Generation.objects.get(pk=done["generation_id"])
    assert (generation.status, generation.text) == ("completed", second)
    assert generation.attempts.count() == len(provider.requests) - 1
    assert Submission.objects.get().answer == "mulch"


def test_the_same_without_streaming(as_alice: Client, profession: Profession, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(status=Refusal.SERVER_ERROR)
    task = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    assert task["question"] == profession.ordered_briefs[0].authored_text
    assert (task["source"], task["authored_because"]) == ("authored", "no_candidate")
    assert len(provider.requests) == 3


def test_what_was_shown_is_withdrawn_before_another_text_begins(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    provider.script(Behaviour(ending=Ending.RESET, after_tokens=3, hold_after=3), Behaviour(text="Another text."))
    with as_alice.stream(path) as stream:
        seen = stream.until("token")
        while text_of(seen) != provider.requests[0].text_sent or len(provider.requests[0].tokens_sent) < 3:
            seen += stream.until("token")
        provider.release()
        rest = list(stream)
    assert types_of(rest) == ["reset", "token", "done"]
    assert text_of(rest) == "Another text." == Generation.objects.get().text
    resumed = as_alice.events(f"{path}?after={seen[-1]['id']}")
    assert types_of(resumed) == ["reset", "token", "done"], "the same for who comes back with an old cursor"


def test_a_key_in_the_providers_reason_is_taken_out(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.script(Behaviour(status=Refusal.BAD_KEY))
    as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    detail = Attempt.objects.get().detail
    assert "Incorrect API key provided" in detail
    assert KEY[:5] not in detail
    assert KEY[-4:] not in detail
    said = set(CandidateHealth.objects.exclude(failures=0).values_list("detail", flat=True))
    begins = "status 401, code invalid_api_key: 401 Incorrect API key provided: [key]."
    assert [detail[: len(begins)] for detail in said] == [begins]


def test_a_text_cut_at_the_length_limit_is_kept_and_marked(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(ending=Ending.LENGTH, after_tokens=5)
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
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, LLM_MAX_TOKENS="200000")
    tokens = tuple(f"слово {number:05d} " + "x" * 90 for number in range(10_000))
    provider.script(Behaviour(tokens=tokens))
    with (
        Client(server.url, token=alice_token) as client,
        client.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as stream,
    ):
        events = list(stream)
    assert text_of(events) == "".join(tokens) == events[-1]["data"]["full_text"]
    positions = [tuple(map(int, event["id"].split("-")[1:])) for event in events]
    assert positions == sorted(set(positions))
    once = len("".join(tokens).encode())
    assert len(stream.raw) < 2.2 * once, "the text once in tokens and once in done"
