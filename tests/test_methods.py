"""Methods other than the one an address is for, and an older HTTP."""

import subprocess

import pytest

from accounts.models import User
from generation.models import Generation
from professions.models import Profession
from tasks import running
from tasks.models import Simulation, Task
from tests.client import Client
from tests.conftest import Server
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.test_refusals import session_of
from tests.waiting import required


def test_head_says_what_get_would_and_starts_and_spends_nothing(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    current = f"/api/tasks/profession/{profession.pk}/current"
    whole = as_alice.http.head(current)
    stream = as_alice.http.head(f"{current}/stream")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "application/json")
    assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream")
    assert stream.headers["cache-control"] == "no-store, no-transform"
    assert not {"content-length", "transfer-encoding"} & {*whole.headers, *stream.headers}
    assert whole.content == stream.content == b""
    assert not Simulation.objects.exists()
    assert not Generation.objects.exists()
    assert provider.requests == []


def test_head_is_refused_as_get_is(as_alice: Client, server: Server, profession: Profession) -> None:
    for path in ["/api/tasks/profession/{}/current", "/api/tasks/profession/{}/current/stream"]:
        assert as_alice.http.head(path.format(987)).status_code == 404
        foreign = {"Sec-Fetch-Site": "cross-site", "Authorization": ""}
        with Client(server.url) as nobody:
            assert nobody.http.head(path.format(profession.pk), headers=foreign).status_code == 401


def test_head_begins_no_text_that_waits_and_no_clock(
    server: Server, alice: User, profession: Profession, provider: FakeOpenAI
) -> None:
    simulation = running.open_simulation(user=alice, profession=profession, language="en")
    stream = f"/api/generations/{simulation.current_text.pk}/stream"
    with Client(server.url) as browser:
        browser.http.cookies.set("sessionid", session_of(alice))
        assert browser.http.head(stream).status_code == 200
        assert browser.http.head(f"/simulations/{simulation.pk}").status_code == 200
        assert Generation.objects.get().status == "pending"
        Generation.objects.update(status="completed", text="What do you do?")
        assert browser.http.head(f"/simulations/{simulation.pk}").status_code == 200
        assert Task.objects.get().clock_started_at is None
        assert browser.get(f"/simulations/{simulation.pk}").status_code == 200
    assert Task.objects.get().clock_started_at is not None
    assert provider.requests == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_a_method_that_an_address_is_not_for_gets_405_with_those_it_is_for(
    as_alice: Client, profession: Profession, method: str
) -> None:
    as_alice.http.cookies.set("csrftoken", "a" * 32)
    for path in ["/", "/professions/gardener", f"/api/tasks/profession/{profession.pk}/current/stream"]:
        refused = as_alice.http.request(method, path, headers={"X-CSRFToken": "a" * 32})
        assert refused.status_code == 405, path
        assert refused.headers["allow"].startswith("GET, HEAD"), path


def test_options_names_the_methods(as_alice: Client, profession: Profession, provider: FakeOpenAI) -> None:
    current = f"/api/tasks/profession/{profession.pk}/current"
    assert as_alice.http.options(current).headers["allow"] == "GET, HEAD, OPTIONS"
    stream = as_alice.http.options(f"{current}/stream")
    assert (stream.status_code, stream.headers["allow"]) == (200, "GET, HEAD, OPTIONS")
    assert as_alice.http.options("/api/tasks/1/submit/stream").headers["allow"] == "POST, OPTIONS"
    assert not Simulation.objects.exists()


def test_http_1_0_gets_no_chunks_and_a_stream_that_ends_with_the_connection(
    server: Server, alice_token: str, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    address = f"{server.url}/api/tasks/profession/{profession.pk}/current/stream"
    command = [required("curl"), "-siN", "--http1.0", "--raw", "-H", f"Authorization: Bearer {alice_token}", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        head = b"".join(iter(curl.stdout.readline, b"\r\n")).lower()
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        assert curl.stdout.readline() == b"retry: 1500\n"
        lines = iter(curl.stdout.readline, b"")
        assert b'"One "' in next(line for line in lines if b'"token"' in line)
        assert not provider.requests[0].finished
        provider.release()
        assert b'"done"' in b"".join(lines)
    assert curl.returncode == 0


def test_a_page_over_http_1_0_is_whole(server: Server, profession: Profession) -> None:
    for path in ["/", "/nothing", "/healthz"]:
        command = [required("curl"), "-si", "--http1.0", "--raw", f"{server.url}{path}"]
        head, _, body = subprocess.run(command, capture_output=True, check=True).stdout.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert f"content-length: {len(body)}\r\n".encode() in head + b"\r\n"
