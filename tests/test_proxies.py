"""Whom the site believes who a visitor is."""

from pathlib import Path

import httpx2
import pytest
from django.conf import settings

from tests.conftest import Server, ServerStarter
from tests.test_settings import Visitor
from tests.waiting import wait_until

SITE = "https://try.example.org"
FORWARDED = {"Host": "try.example.org", "X-Forwarded-Proto": "https"}


def ask(server: Server, path: str, *, peer: str, method: str = "GET", **headers: str) -> httpx2.Response:
    """Ask from another address of this computer."""
    transport = httpx2.HTTPTransport(local_address=peer)
    with httpx2.Client(transport=transport, base_url=server.url, timeout=30) as client:
        return client.request(method, path, headers=FORWARDED | headers)


def visitor_in_log(server: Server, mark: str) -> str:
    """Return the visitor's address as the access log has it for the request with this mark."""

    def lines() -> list[str]:
        return [line for line in server.log.splitlines() if "uvicorn.access" in line and mark in line]

    wait_until(lambda: bool(lines()), what="the access log")
    return lines()[0].split(" uvicorn.access ")[1].split(" - ")[0].rpartition(":")[0]


@pytest.fixture
def https_server(start_own_server: ServerStarter) -> Server:
    return start_own_server(SITE_URL=SITE)


def test_a_proxy_on_another_host_that_is_not_trusted_is_named_in_the_log_once(https_server: Server) -> None:
    for _ in range(3):
        looped = ask(https_server, "/simulations", peer="127.0.0.2")
        assert (looped.status_code, looped.headers["location"]) == (301, f"{SITE}/simulations")
    ask(https_server, "/simulations", peer="127.0.0.3")
    said = [line for line in https_server.log.splitlines() if "web.proxies" in line]
    assert [line.split("web.proxies ")[1].split(" is not believed")[0] for line in said] == [
        "127.0.0.2 sent X-Forwarded-Proto and",
        "127.0.0.3 sent X-Forwarded-Proto and",
    ]
    assert "add it to TRUSTED_PROXIES" in said[0]


@pytest.mark.parametrize("trusted", ["127.0.0.2", "10.0.0.0/8, 127.0.0.0/29"])
def test_a_proxy_on_another_host_that_is_trusted_ends_tls(start_own_server: ServerStarter, trusted: str) -> None:
    server = start_own_server(SITE_URL=SITE, TRUSTED_PROXIES=trusted)
    assert ask(server, "/", peer="127.0.0.2").status_code == 200
    assert ask(server, "/", peer="127.0.0.2", **{"X-Forwarded-Proto": "http"}).status_code == 301
    assert ask(server, "/", peer="127.0.0.9").status_code == 301
    assert "web.proxies 127.0.0.2" not in server.log


def test_the_visitor_is_the_rightmost_address_that_is_no_proxys(start_own_server: ServerStarter) -> None:
    server = start_own_server(SITE_URL=SITE, TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8")
    for number, (peer, forwarded, visitor) in enumerate(
        [
            ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("127.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),
            ("127.0.0.1", "198.51.100.1, 203.0.113.7, 10.0.0.5", "203.0.113.7"),
            ("127.0.0.1", "127.0.0.1, 203.0.113.7", "203.0.113.7"),
            ("127.0.0.1", "2001:db8::7", "2001:db8::7"),
            ("127.0.0.2", "198.51.100.1", "127.0.0.2"),
            ("127.0.0.2", "127.0.0.1", "127.0.0.2"),
        ]
    ):
        ask(server, f"/healthz?page={number}", peer=peer, **{"X-Forwarded-For": forwarded})
        assert visitor_in_log(server, f"page={number}") == visitor, (peer, forwarded)


def test_a_proxy_over_ipv6_and_one_that_speaks_ipv4_to_a_socket_of_both_kinds_are_trusted(
    start_own_server: ServerStarter,
) -> None:
    server = start_own_server("--host", "::", SITE_URL=SITE)
    for name, mark in [("[::1]", "six"), ("127.0.0.1", "four")]:
        answer = httpx2.get(
            f"http://{name}:{server.port}/?page={mark}", headers=FORWARDED | {"X-Forwarded-For": "8.8.4.4"}
        )
        assert answer.status_code == 200
        assert visitor_in_log(server, f"page={mark}") == "8.8.4.4"


def test_whoever_comes_through_the_unix_socket_is_trusted_unless_the_operator_says_otherwise(
    start_own_server: ServerStarter, tmp_path: Path
) -> None:
    path = tmp_path / "site.sock"
    transport = httpx2.HTTPTransport(uds=str(path))
    with httpx2.Client(transport=transport, base_url="http://site", headers=FORWARDED, timeout=30) as client:
        for trusted, status in [("", 200), ("unix", 200), ("127.0.0.1", 301)]:
            server = start_own_server(unix_socket=path, SITE_URL=SITE, TRUSTED_PROXIES=trusted)
            answer = client.get(f"/?page={trusted}", headers={"X-Forwarded-For": "203.0.113.7"})
            assert answer.status_code == status, trusted
            assert visitor_in_log(server, f"page={trusted}") == ("203.0.113.7" if status == 200 else "unix")
            server.stop()


def test_rate_limits_count_the_address_that_the_proxy_saw(start_own_server: ServerStarter) -> None:
    server = start_own_server(SITE_URL=SITE, EMAIL_URL="dummymail://")
    most = int(str(settings.ACCOUNT_RATE_LIMITS["reset_password"]).removesuffix("/m/ip"))
    visitor = Visitor(server, SITE)
    visitor.ask("GET", "/accounts/password/reset/")

    def forgot_password(number: int, *, seen: str) -> int:
        visitor.headers["X-Forwarded-For"] = f"198.51.100.{number}, {seen}"
        return visitor.ask("POST", "/accounts/password/reset/", email=f"{number}@example.org").status_code

    answers = [forgot_password(number, seen="203.0.113.7") for number in range(most + 1)]
    assert answers == [302] * most + [429]
    assert forgot_password(most, seen="203.0.113.8") == 302
