"""Behind a real nginx that was told nothing but where the site is: its defaults buffer."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from professions.models import Profession
from tests.client import Client, text_of, types_of
from tests.conftest import KEY, Server, ServerStarter
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.nginx import running, start_command
from tests.waiting import free_port, required, wait_until


@contextmanager
def nginx_before(server: Server, folder: Path) -> Iterator[str]:
    """Yield the address of an nginx before a server."""
    port = free_port()
    site = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {server.url}; }} }}"
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx2.get(f"{url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    with running(start_command(folder, site), log_file=folder / "log"):
        wait_until(answers, what="nginx")
        yield url


@pytest.fixture
def nginx(server: Server, tmp_path: Path) -> Iterator[str]:
    with nginx_before(server, tmp_path) as url:
        yield url


def test_curl_sees_the_first_byte_before_the_model_has_written_anything(
    nginx: str, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=0)
    address = f"{nginx}/api/tasks/profession/{profession.pk}/current/stream"
    command = [required("curl"), "-sN", "-H", f"Authorization: Bearer {alice_token}", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        assert curl.stdout.readline() == b"retry: 1500\n"
        lines = iter(curl.stdout.readline, b"")
        metadata = next(line for line in lines if line.startswith(b"data: "))
        assert b'"metadata"' in metadata
        provider.wait_for(lambda fake: bool(fake.requests) and fake.requests[0].held)
        assert provider.requests[0].tokens_sent == []
        provider.release()
        assert b'"done"' in b"".join(lines)


def test_tokens_pass_while_the_model_still_writes(
    nginx: str, profession: Profession, provider: FakeOpenAI, alice_token: str
) -> None:
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    with Client(nginx, token=alice_token) as client, client.stream(path) as stream:
        assert text_of(stream.until("token")) == "One "
        assert not provider.requests[0].finished
        provider.release()
        assert stream.until("done")[-1]["data"]["full_text"] == "One two."


def test_a_whole_simulation_passes(nginx: str, profession: Profession, provider: FakeOpenAI, alice_token: str) -> None:
    with Client(nginx, token=alice_token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
        for _ in range(3):
            assert text_of(events) == events[-1]["data"]["full_text"] == provider.requests[-1].text_sent
            path = f"/api/tasks/{events[-1]['data']['task_id']}/submit/stream"
            events = client.events(path, body={"answer": "mulch"})
    assert types_of(events) == ["report", "completed"]
    assert text_of(events, "report") == events[-1]["data"]["final_report"]["text"] == provider.requests[-1].text_sent


def test_a_silence_of_two_minutes_survives_a_proxy_that_waits_for_one(
    start_own_server: ServerStarter,
    transactional_db: None,
    tmp_path: Path,
    profession: Profession,
    provider: FakeOpenAI,
    alice_token: str,
) -> None:
    provider.default = Behaviour(text="At last.", first_token_delay=120)
    patience = {"LLM_FIRST_TOKEN_SECONDS": "200", "LLM_TIMEOUT_SECONDS": "300"}
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, **patience)
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    with nginx_before(server, tmp_path) as url, Client(url, token=alice_token) as client, client.stream(path) as stream:
        assert text_of(list(stream)) == "At last."
        assert stream.raw.count(b": still here\n\n") >= 7
    assert len(provider.requests) == 1, "a lease that is renewed is not taken over"
    server.stop()
