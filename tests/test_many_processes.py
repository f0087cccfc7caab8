"""Two server processes on PostgreSQL and Redis: whatever happens to one, nobody loses a text."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from tests.client import Client, text_of, types_of
from tests.conftest import ServerStarter
from tests.crowd import Crowd
from tests.fake_openai import Behaviour, FakeOpenAI, Refusal
from tests.sites import Site
from tests.stores import Postgres, Redis
from tests.waiting import run_async, wait_until

TOKENS = tuple(f"слово {number} 🌹 " for number in range(40))
TEXT = "".join(TOKENS)


@pytest.fixture
def site(postgres: Postgres, redis_server: Redis, start_server: ServerStarter, provider: FakeOpenAI) -> Iterator[Site]:
    site = Site(postgres, redis_server, start_server, provider)
    yield site
    site.stop()


@pytest.fixture
def at_first(site: Site) -> Iterator[Client]:
    with Client(site.first.url, token=site.token) as client:
        yield client


@pytest.fixture
def at_second(site: Site) -> Iterator[Client]:
    with Client(site.second.url, token=site.token) as client:
        yield client


def test_a_viewer_at_another_process_sees_the_text_grow(
    site: Site, at_first: Client, at_second: Client, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=10)
    with at_first.stream(site.current) as one, at_second.stream(site.current) as other:
        seen_one, seen_other = one.until("token"), other.until("token")
        assert not provider.requests[0].finished
        provider.release()
        seen_one += list(one)
        seen_other += list(other)
    assert text_of(seen_one) == text_of(seen_other) == seen_other[-1]["data"]["full_text"] == TEXT
    assert len(provider.requests) == 1


@pytest.mark.parametrize("moment", ["before the first token", "in the middle"])
def test_a_killed_process_is_replaced_by_the_other(
    site: Site, at_first: Client, at_second: Client, provider: FakeOpenAI, moment: str
) -> None:
    written = 0 if moment == "before the first token" else 10
    provider.script(Behaviour(tokens=TOKENS, hold_after=written), Behaviour(tokens=TOKENS))
    with at_first.stream(site.current) as one:
        one.until("token" if written else "metadata")
        provider.wait_for(lambda fake: bool(fake.requests) and fake.requests[0].held)
        with at_second.stream(site.current) as other:
            seen = other.until("token" if written else "metadata")
            site.first.process.kill()
            seen += list(other)
    assert types_of(seen) == (
        ["metadata", "token", "reset", "token", "done"] if written else ["metadata", "token", "done"]
    )
    last = seen[next((i for i, event in enumerate(seen) if event["type"] == "reset"), 0) :]
    assert text_of(last) == seen[-1]["data"]["full_text"] == TEXT
    assert site.status() == ("completed", 2, TEXT)


def test_a_process_that_slept_through_its_lease_writes_nothing_more(
    site: Site, at_first: Client, at_second: Client, provider: FakeOpenAI, redis_server: Redis
) -> None:
    provider.script(Behaviour(tokens=TOKENS, hold_after=10), Behaviour(text="The successor's text.", hold_after=2))
    with at_first.stream(site.current) as one:
        one.until("token")
        with at_second.stream(site.current) as other:
            seen = other.until("token")
            site.first.process.send_signal(signal.SIGSTOP)
            seen += other.until("reset")
            provider.wait_for(lambda fake: len(fake.requests) == 2 and fake.requests[1].held)
            site.first.process.send_signal(signal.SIGCONT)
            provider.release(provider.requests[0])
            # The zombie hears that it lost its lease, and hangs up.
            wait_until(lambda: "another process took over" in site.first.log, what="the zombie's insight", seconds=20)
            (name,) = redis_server.client.scan_iter("profession-simulator:text:*")
            epochs = {int(entry_id.partition("-")[0]) for entry_id in redis_server.entries(name)}
            assert max(epochs) == 2
            provider.release()
            seen += list(other)
    assert text_of(seen[[event["type"] for event in seen].index("reset") :]) == "The successor's text."
    assert site.status() == ("completed", 2, "The successor's text.")


def test_saved_but_never_announced_still_ends_for_viewers_elsewhere(
    site: Site, at_first: Client, at_second: Client, provider: FakeOpenAI, redis_server: Redis
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=10)
    with at_first.stream(site.current) as one, at_second.stream(site.current) as other:
        one.until("token")
        seen = other.until("token")
        redis_server.process.send_signal(signal.SIGSTOP)  # whatever is announced now stays unheard
        provider.release()
        wait_until(lambda: site.status()[0] == "completed", what="the saved row")
        site.first.process.kill()
        redis_server.process.send_signal(signal.SIGCONT)
        seen += list(other)
    assert text_of(seen) == seen[-1]["data"]["full_text"] == TEXT
    assert site.status() == ("completed", 1, TEXT)


def test_redis_killed_in_the_middle_costs_nobody_the_text(
    site: Site, at_first: Client, at_second: Client, provider: FakeOpenAI, redis_server: Redis
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=10)
    with at_first.stream(site.current) as one, at_second.stream(site.current) as other:
        seen_one, seen_other = one.until("token"), other.until("token")
        redis_server.kill()
        provider.release()
        seen_one += list(one)
        seen_other += list(other)
    assert text_of(seen_one) == text_of(seen_other) == TEXT
    redis_server.start()
    with Client(site.second.url, token=site.new_tokens(1)[0]) as client:
        provider.default = Behaviour(tokens=TOKENS)
        assert text_of(client.events(site.current)) == TEXT


@pytest.mark.parametrize("fault", ["cut connections", "restart"])
def test_redis_failing_again_and_again_loses_and_repeats_nothing(
    site: Site, at_first: Client, at_second: Client, provider: FakeOpenAI, redis_server: Redis, fault: str
) -> None:
    tokens = tuple(f"слово {number} 🌹 " for number in range(120))
    provider.default = Behaviour(tokens=tokens, tokens_per_second=20)
    with at_first.stream(site.current) as one, at_second.stream(site.current) as other:
        seen_one, seen_other = one.until("token"), other.until("token")
        for _ in range(3):
            if fault == "restart":
                redis_server.kill()
                redis_server.start()
            else:
                assert redis_server.cut_connections() > 0
            seen_other += other.until("token")  # heard by way of Redis: the row has nothing yet
        assert not provider.requests[0].finished
        seen_one += list(one)
        seen_other += list(other)
    assert text_of(seen_one) == text_of(seen_other) == seen_other[-1]["data"]["full_text"] == "".join(tokens)
    assert types_of(seen_one) == types_of(seen_other) == ["metadata", "token", "done"]
    assert len(provider.requests) == 1
    assert site.status() == ("completed", 1, "".join(tokens))


@pytest.mark.parametrize("redis_is", ["there", "gone", "restarted", "cut off and back"])
def test_cancelling_at_another_process_closes_the_providers_socket(
    site: Site, at_first: Client, at_second: Client, provider: FakeOpenAI, redis_server: Redis, redis_is: str
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=10)
    with at_first.stream(site.current) as one:
        generation_id = one.until("metadata")[0]["data"]["generation_id"]
        seen = one.until("token")
        provider.wait_for(lambda fake: fake.requests[0].held)
        if redis_is in {"gone", "restarted"}:
            redis_server.kill()
        if redis_is == "restarted":
            redis_server.start()
        if redis_is == "cut off and back":
            assert redis_server.cut_connections() > 0
        at_second.post(f"/api/generations/{generation_id}/cancel")
        provider.wait_for(lambda fake: fake.requests[0].disconnected)
        seen += list(one)
    assert seen[-1]["data"]["code"] == "cancelled"
    assert site.status() == ("cancelled", 1, "".join(TOKENS[:10]))


def test_more_people_cancel_at_once_than_there_are_connections(site: Site, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=10)
    tokens = site.new_tokens(24)

    async def play() -> list[str]:
        async with Crowd() as crowd:
            await crowd.first_tokens([site.first.url + site.current], tokens)

            async def stop(token: str) -> str:
                headers = {"Authorization": f"Bearer {token}"}
                async with crowd.session.get(f"{site.first.url}/api/simulations", headers=headers) as response:
                    (simulation,) = await response.json()
                address = f"{site.first.url}/api/simulations/{simulation['id']}"
                async with crowd.session.get(address, headers=headers) as response:
                    (task,) = (await response.json())["tasks"]
                address = f"{site.first.url}/api/generations/{task['generation_id']}/cancel"
                async with asyncio.timeout(60), crowd.session.post(address, headers=headers) as response:
                    return str((await response.json())["status"])

            return await asyncio.gather(*map(stop, tokens))

    assert set(run_async(play())) == {"cancelled"}


def test_a_process_that_is_asked_to_leave_sends_its_viewers_to_the_other(
    site: Site, at_first: Client, at_second: Client, provider: FakeOpenAI
) -> None:
    provider.script(Behaviour(tokens=TOKENS, hold_after=10), Behaviour(tokens=TOKENS))
    with at_first.stream(site.current) as one:
        one.until("token")
        site.first.process.terminate()
        assert types_of(list(one))[-1] == "reconnect"
        cursor = one.cursor
    assert site.first.process.wait(10) in {0, -signal.SIGTERM}
    resumed = at_second.events(f"{site.current}?after={cursor}")
    assert types_of(resumed) == ["reset", "token", "done"]
    assert text_of(resumed) == TEXT


@pytest.mark.quiet
def test_a_pool_of_eight_connections_for_each_process_carries_500_streams(
    site: Site, provider: FakeOpenAI, postgres: Postgres
) -> None:
    provider.default = Behaviour(hold_after=1)
    tokens = site.new_tokens(500)

    async def play() -> None:
        async with Crowd() as crowd:
            urls = [site.first.url + site.current, site.second.url + site.current]
            responses = await crowd.first_tokens(urls, tokens)
            assert postgres.connections() <= 16
            provider.release()
            assert await crowd.ends_without(b'"type":"done"', responses) == []

    run_async(play())
    assert len(provider.requests) == 500


def test_a_process_is_ready_while_database_and_redis_answer(site: Site, at_first: Client, redis_server: Redis) -> None:
    assert at_first.get("/readyz").status_code == 200
    redis_server.kill()
    refused = at_first.get("/readyz")
    assert (refused.status_code, refused.text) == (503, "Redis does not answer\n")
    assert at_first.get("/healthz").status_code == 200
    redis_server.start()
    assert at_first.get("/readyz").status_code == 200


def test_what_one_process_learned_of_a_model_the_other_knows(site: Site, provider: FakeOpenAI) -> None:
    provider.route(Behaviour(status=Refusal.NO_ACCESS), model="gpt-4o-mini")
    for server, token in zip((site.first, site.second), site.new_tokens(2), strict=True):
        with Client(server.url, token=token) as client:
            assert types_of(client.events(site.current))[-1] == "done"
    models = [request.model for request in provider.requests]
    assert models == ["gpt-4o-mini", "gpt-4.1-mini-2025-04-14", "gpt-4.1-mini-2025-04-14"]
