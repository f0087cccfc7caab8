"""A candidate that is slow to begin gets a rival, and whoever speaks first goes on alone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from generation.hedging import Allowance
from generation.models import Attempt
from professions.models import Profession
from tests.client import Client, shown_text
from tests.conftest import KEY, Server, ServerStarter
from tests.fake_openai import MODELS, Behaviour, Ending, FakeOpenAI, Refusal
from tests.test_many_streams import tokens_of_new_learners

SLOW = Behaviour(text="Just in time.", hold_after=0)  # silent until a test releases it
QUICK = Behaviour(text="At once.")


@pytest.fixture
def hedging_server(start_own_server: ServerStarter, provider: FakeOpenAI) -> Server:
    return start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, LLM_HEDGE_SECONDS="0.5")


def play_releasing_the_first(
    server: Server, token: str, profession: Profession, provider: FakeOpenAI, *, when: Callable[[FakeOpenAI], bool]
) -> str:
    with ThreadPoolExecutor(1) as thread:
        played = thread.submit(play, server, token, profession)
        provider.wait_for(when)
        provider.release(provider.requests[0])
        return played.result()


def play(server: Server, token: str, profession: Profession) -> str:
    with Client(server.url, token=token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert events[-1]["type"] == "done"
    return shown_text(events)


def test_the_rival_speaks_first_and_the_slow_one_is_closed_at_once(
    hedging_server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.route(SLOW, model=MODELS[0])
    provider.route(QUICK, model=MODELS[1])
    assert play(hedging_server, alice_token, profession) == "At once."
    provider.wait_for(lambda fake: fake.requests[0].disconnected)
    assert [request.model for request in provider.requests] == list(MODELS[:2])
    slow, quick = Attempt.objects.order_by("number")
    assert (slow.outcome, slow.is_hedge, slow.tokens_estimated) == ("overtaken", False, True)
    assert (quick.outcome, quick.is_hedge) == ("completed", True)


def test_the_first_speaks_first_after_all_and_the_rival_is_closed(
    hedging_server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.default = SLOW

    def both_wait(fake: FakeOpenAI) -> bool:
        return [request.held for request in fake.requests] == [True, True]

    text = play_releasing_the_first(hedging_server, alice_token, profession, provider, when=both_wait)
    assert text == "Just in time."
    provider.wait_for(lambda fake: fake.requests[1].disconnected)
    assert dict(Attempt.objects.values_list("is_hedge", "outcome")) == {False: "completed", True: "overtaken"}


def test_a_rival_that_fails_leaves_the_first_to_go_on(
    hedging_server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.route(SLOW, model=MODELS[0])
    provider.route(Behaviour(status=Refusal.SERVER_ERROR), model=MODELS[1])

    def second_failed(fake: FakeOpenAI) -> bool:
        return [request.ended_at is not None for request in fake.requests] == [False, True]

    text = play_releasing_the_first(hedging_server, alice_token, profession, provider, when=second_failed)
    assert text == "Just in time."
    assert dict(Attempt.objects.values_list("is_hedge", "outcome")) == {False: "completed", True: "failed"}


def test_a_rival_that_breaks_off_is_followed_by_the_next_candidate(
    hedging_server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.route(SLOW, model=MODELS[0])
    provider.route(Behaviour(ending=Ending.ERROR_OBJECT, after_tokens=2, hold_after=2), model=MODELS[1])
    provider.route(QUICK, model=MODELS[2])
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    with Client(hedging_server.url, token=alice_token) as client, client.stream(path) as stream:
        seen = stream.until("token")
        provider.release(provider.requests[1])
        assert shown_text(seen + list(stream)) == "At once."
    outcomes = Attempt.objects.order_by("number").values_list("outcome", flat=True)
    assert list(outcomes) == ["overtaken", "failed", "completed"]


def test_nobody_who_is_quick_gets_a_rival(
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    patient = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, LLM_HEDGE_SECONDS="60")
    provider.default = Behaviour(tokens=("One ",) * 20, tokens_per_second=20)
    play(patient, alice_token, profession)
    assert len(provider.requests) == 1


def test_when_everything_is_slow_few_get_a_rival(
    hedging_server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(text="Late.", first_token_delay=1)
    for token in tokens_of_new_learners(6):
        play(hedging_server, token, profession)
    assert Attempt.objects.filter(is_hedge=True).count() == 1


def test_in_an_outage_nobody_gets_a_rival_though_there_would_be_one(
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI
) -> None:
    server = start_own_server(
        OPENAI_API_KEYS=f"{KEY},{KEY}2",
        OPENAI_FALLBACK_MODELS=MODELS[1],
        OPENAI_BASE_URL=provider.base_url,
        LLM_HEDGE_SECONDS="0.5",
    )
    provider.route(Behaviour(status=Refusal.NO_ACCESS), model=MODELS[0])
    provider.route(Behaviour(text="Late.", first_token_delay=1), model=MODELS[1])
    for token in tokens_of_new_learners(2):
        assert play(server, token, profession) == "Late."
    assert [request.key for request in provider.requests] == [KEY, f"{KEY}2", KEY, KEY]
    assert not Attempt.objects.filter(is_hedge=True).exists()


def test_a_long_quiet_time_saves_up_no_more_than_a_few_rivals() -> None:
    allowance = Allowance()
    for _ in range(1000):
        allowance.earn()
    assert [allowance.spend() for _ in range(6)] == [True] * 5 + [False]


def test_in_the_long_run_five_of_a_hundred_texts_may_get_a_rival() -> None:
    allowance = Allowance()
    spent = 0
    for _ in range(1000):
        allowance.earn()
        spent += allowance.spend()
    assert spent <= 51
