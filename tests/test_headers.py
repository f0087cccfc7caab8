"""What every response carries."""

import re
import socket
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from generation.process import Process
from professions.models import Profession
from tests.client import Client
from tests.conftest import Server, ServerStarter
from tests.fake_openai import FakeOpenAI
from tests.waiting import run_async
from web.proxies import Message

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
POLICY = {
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "x-frame-options",
    "cross-origin-opener-policy",
    "permissions-policy",
}
HTTPS = {"Host": "try.example.org", "X-Forwarded-Proto": "https"}


def assert_policy(response: httpx2.Response, *, hsts: bool) -> None:
    what = f"{response.request.method} {response.request.url} {response.status_code}"
    names = [name for name, _ in response.headers.multi_items()]
    assert {name: names.count(name) for name in POLICY} == dict.fromkeys(POLICY, 1), what
    assert ("strict-transport-security" in names) == hsts, what
    assert "server" not in names, what
    assert "x-powered-by" not in names, what


def paths(resolver: URLResolver, prefix: str = "/") -> Iterator[str]:
    """Yield an address of every route, with ids of nobody's in it."""
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern).lstrip("^")
        if isinstance(entry, URLResolver):
            yield from paths(entry, route)
        elif isinstance(entry, URLPattern):
            filled = re.sub(r"<uuid:\w+>", str(uuid.UUID(int=0)), route)
            yield re.sub(r"<[^>]+>|\(\?P<[^)]+\)|[$]$", "987", filled).removesuffix("987" if "$" in route else "")


ROUTES = sorted({*paths(get_resolver()), "/healthz", "/readyz", "/nothing", "/simulations/", "/static/nothing.css"})


@pytest.fixture(scope="module")
def https_server(start_server: ServerStarter) -> Iterator[Server]:
    server = start_server(SITE_URL="https://try.example.org", CORS_ORIGINS="https://front.example")
    yield server
    server.stop()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [HTTPS, {"Host": "try.example.org"}, {**HTTPS, "Host": "evil.example"}, {}])
def test_every_route_answers_every_method_with_the_policy(https_server: Server, headers: dict[str, str]) -> None:
    methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
    seen: set[int] = set()
    with httpx2.Client(base_url=https_server.url, headers=headers, timeout=60) as client:
        for path in ROUTES:
            for method in methods if headers == HTTPS else methods[::2]:
                response = client.request(method, path)
                assert_policy(response, hsts="X-Forwarded-Proto" in headers)
                seen.add(response.status_code)
                assert response.status_code < 500, f"{method} {path}"
    assert seen >= ({200, 301, 302, 401, 403, 404, 405} if headers == HTTPS else {200, 405})


@pytest.mark.django_db(transaction=True)
def test_a_file_a_preflight_and_what_is_not_changed_have_the_policy(https_server: Server, alice_token: str) -> None:
    with httpx2.Client(base_url=https_server.url, headers=HTTPS, timeout=60) as client:
        (address,) = re.findall(r'href="(/static/web/css/site[^"]+)"', client.get("/").text)
        file = client.get(address)
        unchanged = client.get(address, headers={"If-None-Match": file.headers["etag"]})
        refused = client.post(address)
        token = {"Authorization": f"Bearer {alice_token}"}
        asking = {"Origin": "https://front.example", "Access-Control-Request-Method": "GET"}
        preflight = client.options("/api/professions", headers=asking)
        too_large = client.post("/api/simulations", json={"x": "x" * 300_000}, headers=token)
    statuses = [answer.status_code for answer in (file, unchanged, refused, preflight, too_large)]
    assert statuses == [200, 304, 405, 200, 413]
    assert preflight.headers["access-control-allow-origin"] == "https://front.example"
    for answer in (file, unchanged, refused, preflight, too_large):
        assert_policy(answer, hsts=True)


@pytest.mark.django_db(transaction=True)
def test_a_failure_inside_the_middleware_has_the_policy(start_own_server: ServerStarter, tmp_path: Path) -> None:
    database = tmp_path / "db.sqlite3"
    server = start_own_server(DATABASE_URL=f"sqlite:///{database}", SITE_URL="https://try.example.org")
    with closing(sqlite3.connect(database)) as broken:
        broken.execute("DROP TABLE django_session")
    for path in ["/simulations", "/api/simulations"]:
        failed = httpx2.get(f"{server.url}{path}", headers=HTTPS | {"Cookie": "__Host-sessionid=" + "a" * 32})
        assert failed.status_code == 500
        assert_policy(failed, hsts=True)


def test_a_failure_outside_of_django_is_answered_with_the_policy_and_passed_on_to_the_server(
    static_files: None,
) -> None:
    from simulator.asgi import application  # looks at the static files

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def ask() -> None:
        scope = {"type": "websocket", "method": "GET", "path": "/", "scheme": "http", "headers": []}
        await application({**scope, "state": {"process": Process()}}, receive, send)

    with pytest.raises(ValueError, match="Django can only handle ASGI/HTTP connections"):
        run_async(ask())
    start, body = sent
    assert (start["status"], body["body"]) == (500, b"Internal Server Error")
    assert {name.decode() for name, _ in start["headers"]} >= POLICY


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"BOGUS / HTTP/1.1\r\n\r\n",
        b"GET /?\xff HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    ],
)
@pytest.mark.django_db(transaction=True)
def test_what_is_no_request_at_all_is_refused_with_the_policy(authored_server: Server, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", authored_server.port), timeout=30) as connection:
        connection.sendall(sent)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    first, _, body = answer.partition(b"\r\n\r\n")
    head = first.decode().lower()
    assert head.startswith("http/1.1 400 ")
    assert f"\r\ncontent-length: {len(body)}\r\n" in head
    for name in POLICY:
        assert head.count(f"\r\n{name}: ") == 1, name


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
    assert headers["cache-control"] == "no-store, no-transform"
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
