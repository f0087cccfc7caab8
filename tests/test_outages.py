"""A database that is gone or full: readers are soon told, nothing untrue is said, and all goes on after it."""

import subprocess
from collections.abc import Iterator

import httpx2
import pytest

from accounts.models import User
from generation.models import Generation
from professions.models import Profession
from tasks.models import Submission
from tests.client import Client, shown_text, text_of
from tests.conftest import KEY, SECRET_KEY, Server, ServerStarter, new_tokens
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.stores import Postgres
from tests.test_refusals import session_of
from tests.waiting import required, wait_until

TOKENS = ("One ", "two ", "three.")


class Disk:
    """The disk as a server sees it: what no file may grow on is full."""

    def __init__(self, server: Server) -> None:
        self._pid = server.process.pid

    def fill(self) -> None:
        self._limit("1:unlimited")

    def clear(self) -> None:
        self._limit("unlimited")

    def _limit(self, size: str) -> None:
        subprocess.run([required("prlimit"), f"--fsize={size}", f"--pid={self._pid}"], check=True)


@pytest.fixture
def own_server(start_own_server: ServerStarter, provider: FakeOpenAI) -> Server:
    return start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)


@pytest.fixture
def disk(own_server: Server) -> Iterator[Disk]:
    disk = Disk(own_server)
    yield disk
    disk.clear()


def is_told_that_the_database_is_unavailable(answer: httpx2.Response) -> bool:
    told = (answer.status_code, answer.json()["code"], answer.headers["Retry-After"])
    return told == (503, "database_unavailable", "5")


def test_while_the_disk_is_full_readers_are_told_and_the_text_is_there_when_it_is_not(
    own_server: Server, disk: Disk, provider: FakeOpenAI, profession: Profession, alice_token: str
) -> None:
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    provider.default = Behaviour(tokens=TOKENS, hold_after=1)
    with Client(own_server.url, token=alice_token) as client:
        with client.stream(path) as stream:
            seen = stream.until("token")
            disk.fill()
            provider.release()
            seen += list(stream)
        assert text_of(seen) == "".join(TOKENS)
        assert seen[-1]["type"] == "error"
        assert (seen[-1]["data"]["code"], seen[-1]["data"]["retryable"]) == ("database_unavailable", True)
        assert "store nothing" in seen[-1]["data"]["message"]
        told = httpx2.get(f"{own_server.url}/readyz", timeout=30)
        assert (told.status_code, told.text) == (503, "the database takes no writes\n")
        assert httpx2.get(f"{own_server.url}/healthz").status_code == 200
        disk.clear()
        assert shown_text(client.events(path)) == "".join(TOKENS)
    assert httpx2.get(f"{own_server.url}/readyz").status_code == 200
    assert Generation.objects.get().status == "completed"


def test_an_answer_that_a_full_disk_does_not_take_is_not_said_to_be_kept(
    own_server: Server, disk: Disk, provider: FakeOpenAI, profession: Profession, alice: User, alice_token: str
) -> None:
    cookie = {"Cookie": f"sessionid={session_of(alice)}; csrftoken={'a' * 32}", "Origin": own_server.url}
    with Client(own_server.url, token=alice_token) as client:
        task = client.get(f"/api/tasks/profession/{profession.pk}/current").json()
        disk.fill()
        answer = {"answer": "Mulch and <patience>."}
        for path in (f"/api/tasks/{task['id']}/submit", f"/api/tasks/{task['id']}/submit/stream"):
            assert is_told_that_the_database_is_unavailable(client.post(path, answer))
        form = answer | {"csrfmiddlewaretoken": "a" * 32}
        page = httpx2.post(f"{own_server.url}/tasks/{task['id']}/answer", data=form, headers=cookie)
        assert page.status_code == 503
        assert "was not accepted" in page.text
        assert "Mulch and &lt;patience&gt;.</textarea>" in page.text, "what was typed can be sent again"
        disk.clear()
        assert not Submission.objects.exists()
        assert client.post(f"/api/tasks/{task['id']}/submit", answer).status_code == 200
    assert Submission.objects.get().answer == answer["answer"]


def test_a_database_server_that_goes_away_is_said_at_once_and_used_again_when_it_is_back(
    start_server: ServerStarter, provider: FakeOpenAI
) -> None:
    database = Postgres()
    environment = {
        "DATABASE_URL": database.url,
        "SECRET_KEY": SECRET_KEY,
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": provider.base_url,
    }
    provider.default = Behaviour(tokens=TOKENS, hold_after=1)
    server = start_server(**environment)
    try:
        (token,) = new_tokens(1, environment=environment)
        with Client(server.url, token=token) as client:
            professions = client.get("/api/professions").json()
            path = f"/api/tasks/profession/{professions[0]['id']}/current/stream"
            with client.stream(path) as stream:
                stream.until("token")
                database.go_away()
                assert is_told_that_the_database_is_unavailable(client.get("/api/simulations"))
                page = client.get("/")
                assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
                assert "<h1>Not at the moment</h1>" in page.text
                assert client.get("/readyz").status_code == 503
                provider.release()
                assert list(stream)[-1]["data"]["code"] == "database_unavailable"
            assert "Traceback" not in server.log.partition("[STREAMING]")[2]
            database.start()
            wait_until(lambda: client.get("/readyz").status_code == 200, what="the database's return")
            assert shown_text(client.events(path)) == "".join(TOKENS)
    finally:
        server.stop()
        database.stop()
