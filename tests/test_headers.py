"""What every response carries."""

import pytest

from professions.models import Profession
from tests.client import Client
from tests.conftest import ServerStarter
from tests.fake_openai import FakeOpenAI

PATHS = [
    "/",
    "/professions/gardener",
    "/accounts/login/",
    "/admin/login/",
    "/api/professions",
    "/api/schema",
    "/api/docs",
]
ERRORS = ["/nothing", "/api/nothing", "/api/simulations"]


@pytest.mark.parametrize("path", [*PATHS, *ERRORS, "stream"])
def test_every_response_tells_the_browser_to_run_nothing_but_our_own_files(
    as_alice: Client, profession: Profession, provider: FakeOpenAI, path: str
) -> None:
    if path == "stream":
        path = f"/api/tasks/profession/{profession.pk}/current/stream"
    headers = as_alice.get(path).headers
    policy = dict(directive.split(" ", 1) for directive in headers["content-security-policy"].split("; "))
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_a_stream_is_neither_stored_nor_held_nor_compressed(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    with as_alice.stream(path, **{"Accept-Encoding": "gzip, br"}) as stream:
        headers = stream.response.headers
        list(stream)
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
    assert headers["content-encoding"] == "identity"
    assert stream.raw.startswith(b"retry: 1500\n:")


@pytest.mark.parametrize("path", ["/simulations", "/account", "/api/simulations"])
def test_what_is_personal_is_not_stored_by_caches(as_alice: Client, path: str) -> None:
    assert "no-store" in as_alice.get(path).headers["cache-control"]


@pytest.mark.parametrize("path", ["/api/professions", "/api/simulations"])
def test_an_origin_that_is_not_listed_gets_no_cors_headers(as_alice: Client, path: str) -> None:
    response = as_alice.get(path, Origin="https://elsewhere.example")
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_a_listed_origin_may_ask_with_credentials(start_own_server: ServerStarter, transactional_db: None) -> None:
    server = start_own_server(CORS_ORIGINS="https://front.example")
    with Client(server.url) as front_end:
        listed = front_end.get("/api/professions", Origin="https://front.example")
        page = front_end.get("/", Origin="https://front.example")
    assert listed.headers["access-control-allow-origin"] == "https://front.example"
    assert listed.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" not in page.headers
