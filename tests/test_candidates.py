"""Which key and which model are asked, in which order, and who cools down for how long."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from generation.model_request import ModelRequest
from generation.models import Attempt, CandidateHealth
from generation.upstream import candidates
from generation.upstream.candidates import Choice
from generation.upstream.chat import Clients
from generation.upstream.faults import FAULTS, UpstreamFault
from professions.models import Profession
from tests.client import Client, types_of
from tests.conftest import Server, ServerStarter
from tests.fake_openai import Behaviour, FakeOpenAI, Refusal
from tests.test_many_streams import tokens_of_new_learners
from tests.waiting import free_port, run_async

A, B = "sk-test-aaaaaaaaaaaaaaaaaaaaaaaa", "sk-test-bbbbbbbbbbbbbbbbbbbbbbbb"
ROUTER_KEY = "sk-or-v1-cccccccccccccccccccccccc"
THREE = {
    "OPENAI_API_KEYS": [A, B],
    "OPENAI_MODEL": "one",
    "OPENAI_FALLBACK_MODELS": ["two"],
    "OPENROUTER_API_KEY": ROUTER_KEY,
    "OPENROUTER_MODEL": "three",
}
ENVIRONMENT = {name: ",".join(value) if isinstance(value, list) else value for name, value in THREE.items()}


def ask(server: Server, token: str, profession: Profession) -> list[dict[str, object]]:
    with Client(server.url, token=token) as client:
        return client.events(f"/api/tasks/profession/{profession.pk}/current/stream")


def asked(provider: FakeOpenAI) -> list[tuple[str | None, str | None]]:
    return [(request.key, request.model) for request in provider.requests]


@override_settings(**THREE)
def test_every_key_is_asked_for_a_model_before_the_next_model_and_the_second_provider_last() -> None:
    order = [(one.provider, one.key, one.model) for one in candidates.configured()]
    assert order == [
        ("openai", A, "one"),
        ("openai", B, "one"),
        ("openai", A, "two"),
        ("openai", B, "two"),
        ("openrouter", ROUTER_KEY, "three"),
    ]
    assert not any(key in repr(candidates.configured()) for key in (A, B, ROUTER_KEY))


@override_settings(OPENAI_API_KEYS=[A], OPENAI_MODEL="one", OPENAI_FALLBACK_MODELS=["one", "two", "one"])
def test_a_model_named_twice_is_asked_once() -> None:
    assert [one.model for one in candidates.configured()] == ["one", "two"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_query_of_a_base_address_stays_behind_the_path(provider: FakeOpenAI, slash: str) -> None:
    address = f"{provider.base_url}{slash}?api-version=2025-01-01&empty="
    candidate = candidates.Candidate(provider="openai", base_url=address, key=A, key_number=1, model="one")

    async def scenario() -> None:
        clients = Clients()
        try:
            async for _ in clients.stream(candidate, ModelRequest([{"role": "user", "content": "Count."}])):
                pass
        finally:
            await clients.close()

    run_async(scenario())
    (request,) = provider.requests
    assert (request.path, request.query) == ("/v1/chat/completions", "api-version=2025-01-01&empty=")


def test_four_candidates_fail_in_four_ways_and_each_is_cooling_down_for_its_own_time(
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI
) -> None:
    server = start_own_server(
        **ENVIRONMENT,
        OPENAI_BASE_URL=provider.base_url,
        OPENROUTER_BASE_URL=provider.base_url,
        LLM_FIRST_TOKEN_SECONDS="1.5",
    )
    provider.route(Behaviour(status=Refusal.NO_ACCESS), key=A, model="one")
    provider.route(Behaviour(status=Refusal.RATE_LIMIT, retry_after=90), key=B, model="one")
    provider.route(Behaviour(status=Refusal.SERVER_ERROR), key=A, model="two")
    provider.route(Behaviour(first_token_delay=60), key=B, model="two")
    first, second = tokens_of_new_learners(2)

    events = ask(server, first, profession)

    assert types_of(events) == ["metadata", "token", "done"], "the learner notices nothing"
    everybody = [(A, "one"), (B, "one"), (A, "two"), (B, "two"), (ROUTER_KEY, "three")]
    assert asked(provider) == everybody, "each once: the SDK retries nothing by itself"
    now = timezone.now()
    seconds = {
        row.identity: round((row.cooling_until - now).total_seconds())
        for row in CandidateHealth.objects.exclude(cooling_until=None)
        if row.cooling_until is not None
    }
    expected = dict(zip((one.identity for one in _configured()), (600, 90, 5, 5), strict=False))
    assert seconds.keys() == expected.keys()
    assert all(expected[one] - 6 <= seconds[one] <= expected[one] for one in expected)

    CandidateHealth.objects.filter(fault__in=["provider_error", "provider_timeout"]).update(
        cooling_until=now + timedelta(minutes=5)
    )
    ask(server, second, profession)
    assert asked(provider)[5:] == [(ROUTER_KEY, "three")], "the others are not asked again before their time"
    assert not any(key in server.log for key in (A, B, ROUTER_KEY))


def _configured() -> list[candidates.Candidate]:
    with override_settings(**THREE):
        return candidates.configured()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_provider_that_cannot_be_reached_is_asked_once_and_the_second_one_writes(
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI, alice_token: str, scheme: str
) -> None:
    # Nobody listens at the one address; at the other somebody does who knows nothing of TLS.
    address = provider.base_url.replace("http", "https") if scheme == "https" else f"http://127.0.0.1:{free_port()}/v1"
    own = {"OPENAI_BASE_URL": address, "OPENROUTER_BASE_URL": provider.base_url}
    server = start_own_server(**ENVIRONMENT, **own)
    assert ask(server, alice_token, profession)[-1]["data"]["source"] == "model"  # type: ignore[index]
    assert asked(provider) == [(ROUTER_KEY, "three")]
    unreached, answered = Attempt.objects.order_by("number")
    assert (unreached.fault, unreached.tokens, unreached.http_status) == ("provider_unreachable", 0, None)
    assert answered.outcome == "completed"
    assert CandidateHealth.objects.filter(provider="openai", failures=1).count() == 4


def test_no_more_candidates_are_tried_than_the_operator_allows(
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    server = start_own_server(**ENVIRONMENT, OPENAI_BASE_URL=provider.base_url, LLM_MAX_RETRIES="2")
    provider.default = Behaviour(status=Refusal.SERVER_ERROR)
    assert ask(server, alice_token, profession)[-1]["data"]["source"] == "authored"  # type: ignore[index]
    assert asked(provider) == [(A, "one"), (B, "one")]


def fail_a_while_ago(server: Server, token: str, profession: Profession, provider: FakeOpenAI) -> None:
    """Have the first candidate fail, long enough ago to be tried out again."""
    provider.script(Behaviour(status=Refusal.SERVER_ERROR))
    ask(server, token, profession)
    CandidateHealth.objects.exclude(failures=0).update(cooling_until=timezone.now() - timedelta(seconds=1))


def test_after_its_time_one_request_tries_a_candidate_out_and_the_others_do_not_wait_for_it(
    server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    first, second, third = tokens_of_new_learners(3)
    fail_a_while_ago(server, first, profession, provider)
    provider.route(Behaviour(hold_after=1), model="gpt-4o-mini")

    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    with Client(server.url, token=second) as client, client.stream(path) as probe:
        probe.until("token")
        ask(server, third, profession)
        assert [model for _, model in asked(provider)[2:]] == ["gpt-4o-mini", "gpt-4.1-mini-2025-04-14"]
        provider.release()
        probe.until("done")
    trusted = CandidateHealth.objects.get(model="gpt-4o-mini")
    assert (trusted.failures, trusted.cooling_until, trusted.fault) == (0, None, "")


def test_a_probe_that_a_person_stops_teaches_nothing(
    server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    first, second, third = tokens_of_new_learners(3)
    fail_a_while_ago(server, first, profession, provider)
    provider.script(Behaviour(hold_after=1))
    with (
        Client(server.url, token=second) as client,
        client.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as probe,
    ):
        generation = probe.until("token")[0]["data"]["generation_id"]
        client.post(f"/api/generations/{generation}/cancel")
    assert CandidateHealth.objects.get(model="gpt-4o-mini").failures == 1
    ask(server, third, profession)
    assert asked(provider)[-1][1] == "gpt-4o-mini", "the next one may try it out"
    assert Attempt.objects.get(generation=generation).outcome == "stopped"


@override_settings(**THREE)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("fault", "may_be_probed"),
    [
        (UpstreamFault("no_connection_free", "it was not asked"), True),
        (UpstreamFault("took_too_long", "the whole time was over"), True),
    ],
)
def test_a_probe_that_ends_in_nobodys_fault_is_given_up(fault: UpstreamFault, may_be_probed: bool) -> None:
    first = candidates.configured()[0]
    candidates.blame(first, UpstreamFault("provider_error", "down"))
    CandidateHealth.objects.update(cooling_until=timezone.now() - timedelta(seconds=1))
    choice = candidates.choose([first], tried=[])
    assert choice is not None
    assert choice.probed_until is not None
    assert candidates.choose([first], tried=[]) is None, "one request at a time probes it"
    candidates.record_outcome(choice, fault)
    assert (candidates.choose([first], tried=[]) is not None) == may_be_probed


@override_settings(**THREE)
@pytest.mark.django_db
@pytest.mark.parametrize("code", FAULTS)
def test_which_pauses_grow(code: str) -> None:
    growing = {
        "rate_limited": [10, 20],
        "provider_error": [5, 10],
        "provider_unreachable": [5, 10],
        "provider_timeout": [5, 10],
        "broken_stream": [5, 10],
        "request_refused": [5, 10],
    }
    constant = {
        "provider_unauthorized": [600, 600],
        "model_not_available": [600, 600],
        "wrong_address": [600, 600],
        "too_expensive": [600, 600],
        "candidate_unusable": [600, 600],
        "quota_exhausted": [3600, 3600],
    }
    candidate = candidates.configured()[0]
    pauses = []
    for _ in range(2):
        candidates.record_outcome(Choice(candidate), UpstreamFault(code, "no"))
        for row in CandidateHealth.objects.of([candidate.identity]):
            assert row.cooling_until is not None
            pauses.append(round((row.cooling_until - timezone.now()).total_seconds()))
        CandidateHealth.objects.update(cooling_until=timezone.now() - timedelta(seconds=1))
    assert pauses == (growing | constant).get(code, [])


def test_which_faults_a_person_may_try_again() -> None:
    """A retry is offered where asking again may help without anybody changing anything."""
    for_good = {"provider_unauthorized", "model_not_available", "quota_exhausted", "wrong_address", "too_expensive"}
    for_good.add("candidate_unusable")
    of_this_text = {"context_too_long", "request_refused"}
    assert {code for code, fault in FAULTS.items() if not fault.retryable} == (
        for_good | of_this_text | {"budget_exhausted"}
    )


@override_settings(**THREE)
@pytest.mark.django_db
def test_pauses_grow_with_each_fault_in_a_row_and_a_burst_counts_once() -> None:
    candidate = candidates.configured()[0]
    pauses = []
    for _ in range(9):
        for _ in range(3):
            candidates.blame(candidate, UpstreamFault("provider_error", "no"))
        row = CandidateHealth.objects.get()
        assert row.cooling_until is not None
        pauses.append(round((row.cooling_until - timezone.now()).total_seconds()))
        CandidateHealth.objects.update(cooling_until=timezone.now() - timedelta(seconds=1))
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


@override_settings(**THREE)
@pytest.mark.django_db
@pytest.mark.parametrize(("said", "seconds"), [(0, 1), (90, 90), (86_400, 3600)])
def test_a_provider_is_cooling_down_for_as_long_as_it_says_up_to_an_hour(said: float, seconds: float) -> None:
    candidates.blame(candidates.configured()[0], UpstreamFault("rate_limited", "no", retry_after=said))
    row = CandidateHealth.objects.get()
    assert row.cooling_until is not None
    assert (row.cooling_until - timezone.now()).total_seconds() == pytest.approx(seconds, abs=0.9)


@override_settings(**THREE)
@pytest.mark.django_db
@pytest.mark.parametrize("code", FAULTS)
def test_each_fault_speaks_against_exactly_those_its_row_in_the_table_names(code: str) -> None:
    one_key = {("openai", A, "one"), ("openai", A, "two")}
    expected = {
        "provider_unauthorized": one_key,
        "quota_exhausted": one_key,
        "provider_unreachable": one_key | {("openai", B, "one"), ("openai", B, "two")},
        "wrong_address": one_key | {("openai", B, "one"), ("openai", B, "two")},
        "too_expensive": {("openai", A, "one")},
        "candidate_unusable": {("openai", A, "one")},
        "request_refused": {("openai", A, "one")},
        "model_not_available": {("openai", A, "one")},
        "rate_limited": {("openai", A, "one")},
        "provider_error": {("openai", A, "one")},
        "provider_timeout": {("openai", A, "one")},
        "broken_stream": {("openai", A, "one")},
    }
    choice = Choice(candidates.configured()[0])
    candidates.record_outcome(choice, UpstreamFault(code, "no"))
    blamed = {(one.provider, one.key, one.model) for one in candidates.configured() if _is_cooling_down(one)}
    assert blamed == expected.get(code, set())


def _is_cooling_down(candidate: candidates.Candidate) -> bool:
    return any(row.is_cooling_down for row in CandidateHealth.objects.of([candidate.identity]))


@override_settings(**THREE)
@pytest.mark.django_db
def test_only_one_of_two_gets_the_probe() -> None:
    first, *others = candidates.configured()
    candidates.blame(first, UpstreamFault("provider_error", "no"))
    CandidateHealth.objects.update(cooling_until=timezone.now() - timedelta(seconds=1))
    with transaction.atomic():
        taken = [candidates.choose([first, *others]) for _ in range(2)]
    assert [choice and choice.candidate for choice in taken] == [first, others[0]]
    assert [bool(choice and choice.probed_until) for choice in taken] == [True, False]
