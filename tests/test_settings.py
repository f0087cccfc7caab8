"""What the environment may say: values that cannot be used stop the start with what to write instead."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.cookies import Morsel, SimpleCookie
from pathlib import Path

import httpx2
import pytest

from accounts.models import User
from professions.models import Profession
from tests.conftest import ROOT, Server, ServerStarter

LONG_KEY = "k3y-" * 20


def manage(*arguments: str, var: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run manage.py with an environment of its own; what is empty here is not taken from a developer's .env."""
    unset = dict.fromkeys(["SECRET_KEY", "DATABASE_URL", "REDIS_URL", "DEBUG", "ALLOWED_HOSTS"], "")
    clean = {"PATH": os.environ["PATH"], "VAR_DIR": str(var), "SITE_URL": "http://127.0.0.1:8000"}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=clean | unset | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def last_line(finished: "subprocess.CompletedProcess[str]") -> str:
    return finished.stderr.splitlines()[-1]


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    finished = manage("check", var=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "no issues" in finished.stdout


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"SECRET_KEY": "x" * 49}, "SECRET_KEY has 49 characters; 50 or more are needed. `python -c 'import secrets"),
        ({"DATABASE_URL": "postgres://me:pw@db/sim"}, "SECRET_KEY is not set, and with PostgreSQL or Redis"),
        ({"REDIS_URL": "redis://127.0.0.1/0"}, "SECRET_KEY is not set, and with PostgreSQL or Redis"),
        ({"DATABASE_URL": "mysql://me:pw@db/sim"}, "DATABASE_URL cannot be used; write sqlite:///PATH or postgres://"),
        ({"DATABASE_URL": "pw"}, "DATABASE_URL cannot be used; write sqlite:///PATH or postgres://"),
        ({"SITE_URL": "try.example.org"}, "SITE_URL is 'try.example.org'; write the public address with its scheme"),
        ({"SITE_URL": "ftp://example.org"}, "SITE_URL is 'ftp://example.org'; write the public address with its"),
        ({"SITE_URL": "https://"}, "SITE_URL is 'https:'; write the public address with its scheme"),
        ({"SITE_URL": "http://[::1"}, "SITE_URL is 'http://[::1'; write the public address with its scheme"),
        ({"SITE_URL": "http://a:port"}, "SITE_URL is 'http://a:port'; write the public address with its scheme"),
        ({"SITE_URL": "https://a.org/b"}, "SITE_URL is 'https://a.org/b'; write the public address with its scheme"),
        ({"LLM_TIMEOUT_SECONDS": "0"}, "LLM_TIMEOUT_SECONDS is '0'; write a number of seconds above 0"),
        ({"LLM_FIRST_TOKEN_SECONDS": "-3"}, "LLM_FIRST_TOKEN_SECONDS is '-3'; write a number of seconds above 0"),
        ({"LLM_IDLE_SECONDS": "2m"}, "LLM_IDLE_SECONDS is '2m'; write a number of seconds above 0"),
        ({"LLM_TIMEOUT_SECONDS": "nan"}, "LLM_TIMEOUT_SECONDS is 'nan'; write a number of seconds above 0"),
        ({"LLM_HEDGE_SECONDS": "-1"}, "LLM_HEDGE_SECONDS is '-1'; write a number of seconds, or 0 for no second cand"),
        ({"LLM_MAX_RETRIES": "0"}, "LLM_MAX_RETRIES is '0'; write a whole number, 1 or more"),
        ({"LLM_MAX_RETRIES": "2.5"}, "LLM_MAX_RETRIES is '2.5'; write a whole number, 1 or more"),
        ({"DAILY_TOKEN_BUDGET": "many"}, "DAILY_TOKEN_BUDGET is 'many'; write a whole number, 0 or more"),
        ({"USER_DAILY_TOKEN_BUDGET": "-5"}, "USER_DAILY_TOKEN_BUDGET is '-5'; write a whole number, 0 or more"),
        ({"TRUSTED_PROXIES": "*"}, "TRUSTED_PROXIES is '*'; write addresses and networks such as 10.0.0.5,10.1.0.0/16"),
        ({"TRUSTED_PROXIES": "10.0.0.5/8"}, "TRUSTED_PROXIES is '10.0.0.5/8'; write addresses and networks such as"),
        ({"TRUSTED_PROXIES": "proxy"}, "TRUSTED_PROXIES is 'proxy'; write addresses and networks such as 10.0.0.5"),
        ({"HSTS_PRELOAD": "yep", "SITE_URL": "https://a.org"}, "HSTS_PRELOAD is 'yep'; write on or off"),
        ({"DEBUG": "maybe"}, "DEBUG is 'maybe'; write on or off"),
        ({"ALLOW_GUESTS": "ja"}, "ALLOW_GUESTS is 'ja'; write on or off"),
    ],
    ids=lambda value: "-".join(f"{name}={text:.20}" for name, text in value.items()) if isinstance(value, dict) else "",
)
def test_what_cannot_be_used_stops_the_start_with_what_to_write(
    tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    finished = manage("check", var=tmp_path, **environment)
    assert finished.returncode == 1
    assert sentence in last_line(finished)
    assert "pw" not in last_line(finished)


def test_a_second_provider_without_a_model_stops_the_start(tmp_path: Path) -> None:
    finished = manage("check", var=tmp_path, OPENROUTER_API_KEY="sk-or-secret")
    assert finished.returncode == 1
    assert "simulator.E003" in finished.stderr
    assert "such as OPENROUTER_MODEL=openai/gpt-4o-mini, or take the key away" in finished.stderr
    assert "sk-or-secret" not in finished.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"SITE_URL": "https://try.example.org/", "ALLOW_GUESTS": "off"},
        {"SITE_URL": "http://[::1]:8000", "LLM_TIMEOUT_SECONDS": "1.5", "TRUSTED_PROXIES": "10.0.0.5, fd00::/8,unix"},
        {
            "OPENAI_API_KEY": "",
            "OPENAI_BASE_URL": "",
            "OPENAI_MODEL": "",
            "OPENAI_FALLBACK_MODELS": "",
            "OPENROUTER_API_KEY": "",
            "VARIANT_MODELS": "",
            "LLM_TIMEOUT_SECONDS": "",
            "LLM_MAX_RETRIES": "",
            "LLM_HEDGE_SECONDS": "",
            "DAILY_TOKEN_BUDGET": "",
            "ALLOW_GUESTS": "",
            "CORS_ORIGINS": "",
            "TRUSTED_PROXIES": "",
        },
    ],
    ids=["https", "IPv6", "empty"],
)
def test_what_can_be_used_starts(tmp_path: Path, environment: dict[str, str]) -> None:
    finished = manage("check", var=tmp_path, **environment)
    assert finished.returncode == 0, finished.stderr


def test_a_key_is_made_on_the_first_start_for_the_owner_alone_and_kept(tmp_path: Path) -> None:
    var = tmp_path / "not" / "yet" / "there"
    manage("check", var=var)
    key_file = var / "secret_key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = key_file.read_text()
    assert len(key) >= 50
    in_use = manage("shell", "-v0", "-c", "from django.conf import settings; print(settings.SECRET_KEY)", var=var)
    assert in_use.stdout.strip() == key
    assert key_file.read_text() == key


def test_a_key_that_is_set_is_used_and_none_is_made(tmp_path: Path) -> None:
    show = ("shell", "-v0", "-c", "from django.conf import settings; print(settings.SECRET_KEY)")
    assert manage(*show, var=tmp_path, SECRET_KEY=LONG_KEY).stdout.strip() == LONG_KEY
    assert not (tmp_path / "secret_key").exists()


def test_preloading_without_subdomains_stops_the_start(tmp_path: Path) -> None:
    https = {"SITE_URL": "https://try.example.org", "HSTS_PRELOAD": "on"}
    refused = manage("check", var=tmp_path, **https)
    assert refused.returncode == 1
    assert "(simulator.E010) HSTS_PRELOAD is on without HSTS_INCLUDE_SUBDOMAINS" in refused.stderr
    assert manage("check", var=tmp_path, HSTS_INCLUDE_SUBDOMAINS="on", **https).returncode == 0


def test_djangos_own_check_finds_nothing_to_say_about_an_https_site(tmp_path: Path) -> None:
    finished = manage("check", "--deploy", "--fail-level", "WARNING", var=tmp_path, SITE_URL="https://try.example.org")
    assert finished.returncode == 0, finished.stderr
    assert "no issues" in finished.stdout
    plain = manage("check", "--deploy", "--fail-level", "WARNING", var=tmp_path)
    assert plain.returncode == 1, "over http there is something to say"


class Visitor:
    """A browser behind a proxy that ends TLS: keeps every cookie and says which address it asked for."""

    def __init__(self, server: Server, site: str) -> None:
        self.url = server.url
        scheme, _, host = site.partition("://")
        self.headers = {"Host": host, "X-Forwarded-Proto": scheme, "Referer": f"{site}/"}
        self.cookies: dict[str, Morsel[str]] = {}

    def ask(self, method: str, path: str, **data: str) -> httpx2.Response:
        csrf = next((cookie.value for name, cookie in self.cookies.items() if name.endswith("csrftoken")), "")
        held = "; ".join(f"{name}={cookie.value}" for name, cookie in self.cookies.items())
        headers = self.headers | {"Cookie": held, "X-CSRFToken": csrf}
        response = httpx2.request(method, f"{self.url}{path}", data=data, headers=headers, timeout=30)
        for line in response.headers.get_list("set-cookie"):
            self.cookies |= SimpleCookie(line)
        return response

    def visit(self) -> None:
        """Do whatever makes the site set a cookie: read a form, be a guest, choose a language, be told something."""
        assert self.ask("GET", "/accounts/login/").status_code == 200
        assert self.ask("POST", "/professions/gardener/start").status_code == 302
        assert self.ask("POST", "/language", language="en").status_code == 302
        form = {"username": "carol", "password1": "correct horse battery", "password2": "correct horse battery"}
        assert self.ask("POST", "/accounts/signup/", **form).status_code == 302
        assert User.objects.get(username="carol").is_guest is False


@pytest.fixture(scope="module")
def https_server(start_server: ServerStarter) -> Iterator[Server]:
    server = start_server(SITE_URL="https://try.example.org")
    yield server
    server.stop()


@pytest.mark.django_db(transaction=True)
def test_over_https_every_cookie_is_bound_to_the_host_and_closed_to_scripts(
    https_server: Server, profession: Profession
) -> None:
    visitor = Visitor(https_server, "https://try.example.org")
    visitor.visit()
    assert {"__Host-sessionid", "__Host-csrftoken"} <= set(visitor.cookies)
    for name, cookie in visitor.cookies.items():
        assert name.startswith("__Host-"), name
        assert cookie["secure"], name
        assert cookie["httponly"], name
        assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("Lax", "/", ""), name


@pytest.mark.django_db(transaction=True)
def test_over_http_cookies_are_plain_so_that_a_browser_keeps_them(
    authored_server: Server, profession: Profession
) -> None:
    visitor = Visitor(authored_server, authored_server.url)
    visitor.visit()
    assert {"sessionid", "csrftoken"} <= set(visitor.cookies)
    for name, cookie in visitor.cookies.items():
        assert not cookie["secure"], name
        assert cookie["httponly"], name
        assert cookie["samesite"] == "Lax", name


def test_an_https_site_sends_http_to_https_and_tells_browsers_to_stay(https_server: Server) -> None:
    host = {"Host": "try.example.org"}
    plain = httpx2.get(f"{https_server.url}/professions/x", headers=host)
    assert (plain.status_code, plain.headers["location"]) == (301, "https://try.example.org/professions/x")
    secure = httpx2.get(f"{https_server.url}/healthz", headers=host | {"X-Forwarded-Proto": "https"})
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert httpx2.get(f"{https_server.url}/healthz", headers=host).status_code == 200


def test_a_host_that_is_not_the_sites_gets_nothing(https_server: Server, authored_server: Server) -> None:
    for server in (https_server, authored_server):
        refused = httpx2.get(f"{server.url}/", headers={"Host": "evil.example", "X-Forwarded-Proto": "https"})
        assert refused.status_code == 400
