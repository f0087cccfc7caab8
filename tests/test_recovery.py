"""One process on SQLite alone: killed, asked to leave, overrun, stared at by readers who do not read."""

import asyncio
import json
import signal
import socket
from collections.abc import Iterator

import httpx2
import pytest
from django.db.models import F
from django.utils import timezone

from accounts.models import User
from accounts.tokens import create_token
from generation.models import LEASE, MOST_TAKEOVERS, Generation
from generation.offload import offload
from professions.models import Profession
from tasks import running
from tasks.models import Simulation, Submission, Task
from tests.client import Client, text_of, types_of
from tests.conftest import KEY, SECRET_KEY, Server, ServerStarter
from tests.crowd import Crowd
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.stores import Postgres
from tests.viewers import sweep_and_finish
from tests.waiting import run_async, wait_until

TOKENS = tuple(f"слово {number} 🌹 " for number in range(40))
TEXT = "".join(TOKENS)


@pytest.fixture
def environment(provider: FakeOpenAI) -> dict[str, str]:
    return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url}


@pytest.fixture
def own_server(
    start_own_server: ServerStarter, transactional_db: None, environment: dict[str, str]
) -> Iterator[Server]:
    """A server of this test's own, to be treated badly."""
    server = start_own_server(**environment)
    yield server
    server.stop()


def current(profession: Profession) -> str:
    return f"/api/tasks/profession/{profession.pk}/current/stream"


@pytest.mark.parametrize("moment", ["before the first token", "in the middle"])
def test_a_killed_server_writes_the_text_when_it_is_back(
    own_server: Server,
    start_own_server: ServerStarter,
    environment: dict[str, str],
    profession: Profession,
    provider: FakeOpenAI,
    alice_token: str,
    moment: str,
) -> None:
    written = 0 if moment == "before the first token" else 10
    provider.script(Behaviour(tokens=TOKENS, hold_after=written), Behaviour(tokens=TOKENS))
    with Client(own_server.url, token=alice_token) as client, client.stream(current(profession)) as stream:
        seen = stream.until("token" if written else "metadata")
        provider.wait_for(lambda fake: bool(fake.requests) and fake.requests[0].held)
        own_server.process.kill()
        cursor = stream.cursor
    again = start_own_server(port=own_server.port, **environment)
    with Client(again.url, token=alice_token) as client:
        events = client.events(f"{current(profession)}?after={cursor}")
    assert types_of(events) == (["reset", "token", "done"] if written else ["token", "done"])
    assert text_of(events) == TEXT
    assert text_of(seen) == "".join(TOKENS[:written])
    assert Generation.objects.get().epoch == 2
    again.stop()


def test_a_server_killed_between_saving_and_announcing_has_the_rest_for_who_comes_back(
    own_server: Server,
    start_own_server: ServerStarter,
    environment: dict[str, str],
    profession: Profession,
    provider: FakeOpenAI,
    alice_token: str,
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=10)
    with Client(own_server.url, token=alice_token) as client, client.stream(current(profession)) as stream:
        seen = stream.until("token")
        provider.wait_for(lambda fake: fake.requests[0].held)
        own_server.sleep()
        assert Generation.objects.get().save_end(Generation.Status.COMPLETED, text=TEXT)
        own_server.process.kill()
        with pytest.raises(httpx2.TransportError):
            seen += stream
        cursor = stream.cursor
    again = start_own_server(port=own_server.port, **environment)
    with Client(again.url, token=alice_token) as client:
        rest = client.events(f"{current(profession)}?after={cursor}")
        assert client.get(f"/api/generations/{Generation.objects.get().pk}").json()["text"] == TEXT
    assert types_of(rest) == ["token", "done"]
    assert text_of(seen + rest) == TEXT
    assert len(provider.requests) == 1
    assert Generation.objects.get().epoch == 1


def test_a_text_that_nobody_comes_back_for_is_finished_by_the_sweep(
    transactional_db: None, profession: Profession, alice: User
) -> None:
    text = running.open_simulation(user=alice, profession=profession, language="en").current_text
    Generation.objects.claim(text.pk, owner="killed")
    Generation.objects.expire_leases()
    sweep_and_finish()
    assert Generation.objects.get().status == "completed"
    assert Generation.objects.get().text == profession.ordered_briefs[0].authored_text


def test_a_text_that_nobody_has_looked_at_is_left_by_the_sweep(
    transactional_db: None, profession: Profession, alice: User
) -> None:
    running.open_simulation(user=alice, profession=profession, language="en")
    Generation.objects.update(asked_at=timezone.now() - LEASE)
    sweep_and_finish()
    assert Generation.objects.get().status == "pending"


def test_a_producer_that_lost_its_claim_stores_nothing(transactional_db: None, alice: User) -> None:
    row = Generation.objects.create(user=alice, kind="task", source=Generation.Source.MODEL)
    slept = Generation.objects.claim(row.pk, owner="slept")
    Generation.objects.expire_leases()
    successor = Generation.objects.claim(row.pk, owner="successor")
    assert slept is not None
    assert successor is not None
    assert not slept.save_end(Generation.Status.COMPLETED, text="Too late.")
    assert successor.save_end(Generation.Status.COMPLETED, text="The successor's text.")
    assert not slept.save_end(Generation.Status.FAILED, text="Much too late.")
    row.refresh_from_db()
    assert (row.status, row.text, row.epoch) == ("completed", "The successor's text.", 2)


def test_a_text_whose_producers_die_again_and_again_fails_and_can_be_asked_for_again(
    own_server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=3)
    with Client(own_server.url, token=alice_token) as client:
        with client.stream(current(profession)) as stream:
            stream.until("token")
            # As if this producer, and those before it, had died long ago.
            Generation.objects.update(
                takeovers=MOST_TAKEOVERS,
                lease_expires_at=timezone.now() - LEASE,
                lease_owner="dead",
                epoch=F("epoch") + 2,
            )
            events = list(stream)
        assert (events[-1]["type"], events[-1]["data"]["code"]) == ("error", "interrupted")
        assert events[-1]["data"]["retryable"]
        provider.release()
        provider.default = Behaviour(tokens=TOKENS)
        assert text_of(client.events(current(profession))) == TEXT


def test_a_lease_is_renewed_while_the_model_says_nothing(
    server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.default = Behaviour(tokens=TOKENS, hold_after=0)
    with Client(server.url, token=alice_token) as client, client.stream(current(profession)) as stream:
        provider.wait_for(lambda fake: bool(fake.requests) and fake.requests[0].held)
        lease = Generation.objects.get().lease_expires_at
        renewed = Generation.objects.filter(lease_expires_at__gt=lease, epoch=1)
        wait_until(renewed.exists, what="a longer lease", seconds=LEASE.total_seconds())
        provider.release()
        assert text_of(list(stream)) == TEXT


def test_200_learners_hand_in_at_once_and_every_answer_is_stored(
    own_server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    learners = User.objects.bulk_create(User(username=f"learner-{number}") for number in range(200))
    tokens = [create_token(learner) for learner in learners]
    for learner in learners:
        running.open_simulation(user=learner, profession=profession, language="en")
    Generation.objects.update(status="completed", text="A task.")
    tasks = dict(Task.objects.values_list("simulation__user__username", "pk"))

    async def hand_in() -> list[int]:
        async with Crowd() as crowd:

            async def one(learner: User, token: str) -> int:
                url = f"{own_server.url}/api/tasks/{tasks[learner.username]}/submit/stream"
                headers = {"Authorization": f"Bearer {token}"}
                async with crowd.session.post(url, json={"answer": learner.username}, headers=headers) as response:
                    await response.read()
                    return response.status

            return await asyncio.gather(*map(one, learners, tokens))

    assert set(run_async(hand_in())) == {200}
    assert set(Submission.objects.values_list("answer", flat=True)) == {learner.username for learner in learners}
    assert "database is locked" not in own_server.log


def test_readers_that_stop_reading_are_dropped_and_disturb_nobody(
    start_own_server: ServerStarter,
    environment: dict[str, str],
    profession: Profession,
    provider: FakeOpenAI,
    alice_token: str,
) -> None:
    own_server = start_own_server(**environment, LLM_MAX_TOKENS="1000000")
    text = "x" * 4_000_000
    provider.default = Behaviour(tokens=tuple(text[i : i + 100_000] for i in range(0, len(text), 100_000)))
    address = ("127.0.0.1", own_server.port)
    request = f"GET {current(profession)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice_token}\r\n\r\n"
    request = request.replace("Host: x", f"Host: 127.0.0.1:{own_server.port}")
    stalled = [socket.create_connection(address) for _ in range(5)]
    for reader in stalled:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(request.encode())
    with Client(own_server.url, token=alice_token) as client:
        events = client.events(current(profession))
        assert text_of(events) == text
        before = descriptors_to(own_server, stalled)
        assert before == 5
        wait_until(lambda: descriptors_to(own_server, stalled) == 0, what="the drop of stalled readers", seconds=60)
        assert text_of(client.events(current(profession))) == text
    for reader in stalled:
        reader.close()


def descriptors_to(server: Server, readers: list[socket.socket]) -> int:
    """How many of the connections that these readers opened the kernel still holds for the server."""
    ports = {f"{reader.getsockname()[1]:04X}" for reader in readers}
    local = f"0100007F:{server.port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123  # a table of the kernel's
        rows = [line.split() for line in table]
    established = "01"
    return sum(row[1] == local and row[2].split(":")[1] in ports and row[3] == established for row in rows[1:])


def test_a_person_who_is_disabled_gets_no_more(
    own_server: Server, profession: Profession, provider: FakeOpenAI, alice: User, alice_token: str
) -> None:
    provider.default = Behaviour(hold_after=1)
    with Client(own_server.url, token=alice_token) as client, client.stream(current(profession)) as stream:
        stream.until("token")
        User.objects.filter(pk=alice.pk).update(is_active=False)
        assert [event for event in stream if event["type"] != "token"] == []
        assert provider.open_streams == 1, "the text is still being written"
        provider.release()
        assert client.get(current(profession)).status_code == 401


def test_a_person_holds_a_bounded_number_of_streams(
    own_server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.default = Behaviour(hold_after=1)

    async def play() -> None:
        async with Crowd() as crowd:
            url = own_server.url + current(profession)
            responses = await crowd.first_tokens([url], [alice_token] * 20)
            headers = {"Authorization": f"Bearer {alice_token}"}
            async with crowd.session.get(url, headers=headers) as refused:
                assert refused.status == 503
                assert 2 <= int(refused.headers["Retry-After"]) <= 10
                assert json.loads(await refused.text())["code"] == "too_many_streams"
            provider.release()
            await crowd.ends(responses)
            async with crowd.session.get(url, headers=headers) as again:
                assert again.status == 200

    run_async(play())


def test_nor_does_a_person_wait_for_whole_texts_without_bound(
    own_server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.default = Behaviour(hold_after=1)

    async def play() -> None:
        async with Crowd() as crowd:
            url = own_server.url + current(profession).removesuffix("/stream")
            headers = {"Authorization": f"Bearer {alice_token}"}
            asked = [asyncio.create_task(crowd.session.get(url, headers=headers)) for _ in range(25)]
            answered = asyncio.as_completed(asked)
            for _ in range(5):
                refused = await next(answered)
                assert refused.status == 503
                assert json.loads(await refused.text())["code"] == "too_many_streams"
            # They are refused before the text that the others wait for is asked for.
            await asyncio.to_thread(provider.wait_for, lambda fake: any(request.held for request in fake.requests))
            provider.release()
            assert [(await waited).status for waited in answered] == [200] * 20
            async with crowd.session.get(url, headers=headers) as again:
                assert again.status == 200

    run_async(play())


def test_a_full_server_stores_no_answer_and_starts_nothing(
    own_server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    with Client(own_server.url, token=alice_token) as client:
        task = client.get(f"/api/tasks/profession/{profession.pk}/current").json()
        provider.default = Behaviour(hold_after=1)

        async def play() -> None:
            url = own_server.url + f"/api/generations/{task['generation_id']}/stream"
            async with Crowd() as crowd:
                await offload(Generation.objects.update, status="pending", text="")
                responses = await crowd.first_tokens([url], [alice_token] * 20)
                refused = await asyncio.to_thread(
                    client.post, f"/api/tasks/{task['id']}/submit/stream", {"answer": "mulch"}
                )
                assert refused.status_code == 503
                provider.release()
                await crowd.ends(responses)

        run_async(play())
    assert not Submission.objects.exists()
    assert Simulation.objects.count() == 1


def test_sigterm_lets_a_text_end_that_needs_only_a_moment(
    own_server: Server, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.default = Behaviour(tokens=TOKENS, tokens_per_second=60)
    with Client(own_server.url, token=alice_token) as client, client.stream(current(profession)) as stream:
        stream.until("token")
        own_server.process.send_signal(signal.SIGTERM)
        assert types_of(list(stream))[-1] == "reconnect"
    own_server.process.wait(10)
    assert (Generation.objects.get().status, Generation.objects.get().text) == ("completed", TEXT)


def test_a_balancer_hears_soon_that_the_database_is_gone(start_server: ServerStarter) -> None:
    database = Postgres()
    try:
        server = start_server(DATABASE_URL=database.url, SECRET_KEY=SECRET_KEY)
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
    finally:
        database.stop()
    answer = httpx2.get(f"{server.url}/readyz", timeout=15)  # whoever waits in the pool waits for thirty
    assert (answer.status_code, answer.text) == (503, "the database does not answer\n")
    assert httpx2.get(f"{server.url}/healthz").status_code == 200
    server.stop()
