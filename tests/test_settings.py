"""What the environment may say: values that cannot be used stop the start with what to write instead."""

import os
import re
import shutil
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
from tests.test_serve import NOT_IN_A_CLONE
from tests.waiting import free_port

LONG_KEY = "k3y-of-Alice-" * 5
SETTINGS = ROOT / "simulator" / "settings.py"


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


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    finished = manage("check", var=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "no issues" in finished.stdout


FAULTS = {
    "SITE_URL": (
        "try.example.org",
        "is 'try.example.org'; write the public address with its scheme and without a path",
    ),
    "DEBUG": ("maybe", "is 'maybe'; write on or off"),
    "ALLOWED_HOSTS": ("https://try.example.org", "holds 'https://try.example.org'; write hosts alone"),
    "CSRF_TRUSTED_ORIGINS": ("try.example.org", "holds 'try.example.org'; write origins such as"),
    "CORS_ORIGINS": ("*", "is '*', which would let every site act"),
    "DATABASE_URL": ("postgres://me:pw@db:99999/sim", "has a port that cannot be used"),
    "REDIS_URL": ("redis://:pw@", "needs a host"),
    "WEB_CONCURRENCY": ("two", "is 'two'; write a whole number, 1 or more"),
    "SECRET_KEY": ("pw" * 25, "can be guessed: too few different characters"),
    "EMAIL_URL": ("smtp://me:pw@", "names no host"),
    "OPENAI_API_KEYS": ("sk-pw-one, sk pw-two", "holds a blank or a character that no key has"),
    "OPENAI_API_KEY": ("sk-…", "is the example's placeholder"),
    "OPENAI_BASE_URL": ("http://me:pw@127.0.0.1/v1", "holds a name or a password"),
    "OPENAI_MODEL": ("x" * 121, "holds a name of more than 120 characters"),
    "OPENAI_FALLBACK_MODELS": ("a," + "x" * 121, "holds a name of more than 120 characters"),
    "OPENROUTER_API_KEY": ("sk-or-pw…", "is the example's placeholder"),
    "OPENROUTER_BASE_URL": ("openrouter", "does not begin with http:// or https://"),
    "OPENROUTER_MODEL": ("a\tb", "holds a line break or an invisible character"),
    "VARIANT_MODELS": ("x" * 121, "holds a name of more than 120 characters"),
    "LLM_TIMEOUT_SECONDS": ("0", "is '0'; write a number of seconds above 0"),
    "LLM_FIRST_TOKEN_SECONDS": ("-3", "is '-3'; write a number of seconds above 0"),
    "LLM_IDLE_SECONDS": ("2m", "is '2m'; write a number of seconds above 0"),
    "LLM_HEDGE_SECONDS": ("-1", "is '-1'; write a number of seconds, or 0 for no second candidate"),
    "DEBRIEF_WAIT_SECONDS": ("-1", "is '-1'; write a number of seconds, or 0 for no waiting for marks"),
    "LLM_MAX_TOKENS": ("0", "is '0'; write a whole number, 1 or more and at most 1000000"),
    "LLM_TEMPERATURE": ("2.5", "is '2.5'; write a number from 0 to 2, or none to leave it out"),
    "LLM_MAX_RETRIES": ("2.5", "is '2.5'; write a whole number, 1 or more"),
    "DAILY_TOKEN_BUDGET": ("many", "is 'many'; write a whole number, 0 or more"),
    "USER_DAILY_TOKEN_BUDGET": ("-5", "is '-5'; write a whole number, 0 or more"),
    "GUEST_DAILY_TOKEN_BUDGET": ("1e6", "is '1e6'; write a whole number, 0 or more"),
    "ALLOW_GUESTS": ("ja", "is 'ja'; write on or off"),
    "GUESTS_PER_ADDRESS_AND_HOUR": ("none", "is 'none'; write a whole number, 0 or more"),
    "FRESH_STARTS_PER_HOUR": ("-1", "is '-1'; write a whole number, 0 or more"),
    "REQUIRE_STAFF_MFA": ("staff", "is 'staff'; write on or off"),
    "TRUSTED_PROXIES": ("10.0.0.5,10.0.0.5/8", "holds '10.0.0.5/8'; write addresses and networks such as"),
    "HSTS_INCLUDE_SUBDOMAINS": ("2", "is '2'; write on or off"),
    "HSTS_PRELOAD": ("yep", "is 'yep'; write on or off"),
}


@pytest.mark.parametrize("command", [("check",), ("serve", "--port", "1"), ("verify",), ("migrate",)])
def test_every_fault_stops_the_start_with_a_sentence_of_its_own_and_nothing_is_made(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    finished = manage(*command, var=tmp_path / "var", **{name: value for name, (value, _) in FAULTS.items()})
    assert finished.returncode == 1
    prefix, printed = ("FAIL settings: ", finished.stdout) if command == ("verify",) else ("", finished.stderr)
    lines = printed.splitlines()
    for name, (_, sentence) in FAULTS.items():
        assert [line for line in lines if line.startswith(f"{prefix}{name} {sentence}")], (name, printed)
    assert len(lines) == len(FAULTS) + (command == ("verify",))
    assert "pw" not in printed
    assert "Traceback" not in finished.stdout + finished.stderr
    assert not (tmp_path / "var").exists()


def test_a_server_that_is_started_by_hand_ends_with_the_sentence_too(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "uvicorn", "simulator.asgi:application", "--port", str(free_port())],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "LLM_MAX_RETRIES": "two"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("LLM_MAX_RETRIES is 'two'; write a whole number, 1 or more")
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.parametrize("shared", [{"DATABASE_URL": "postgres://me:pw@db/sim"}, {"REDIS_URL": "redis://127.0.0.1/0"}])
def test_what_several_processes_share_needs_a_key_that_they_share(tmp_path: Path, shared: dict[str, str]) -> None:
    finished = manage("check", var=tmp_path, **shared)
    assert finished.returncode == 1
    assert finished.stderr.startswith("SECRET_KEY is not set, and with PostgreSQL or Redis several processes")
    assert not list(tmp_path.iterdir())


def test_a_misspelled_name_and_hosts_that_are_anybodys_are_warned_of(tmp_path: Path) -> None:
    finished = manage("check", var=tmp_path, OPENAI_APIKEY="sk-secret", ALLOWED_HOSTS="*")
    assert finished.returncode == 0
    assert "OPENAI_APIKEY is not a setting of this site and changes nothing" in finished.stderr
    assert "HINT: OPENAI_API_KEY is" in finished.stderr
    assert "ALLOWED_HOSTS is *, so a stranger chooses the address" in finished.stderr
    assert "sk-secret" not in finished.stdout + finished.stderr


def names_read() -> set[str]:
    """Return the names that simulator/settings.py reads."""
    return set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', SETTINGS.read_text()))


def examples() -> list[tuple[str, str]]:
    """Return the lines of settings in everything that people copy from, as they are printed, each with its place."""
    found = [(file.name, file.read_text()) for file in ROOT.glob("deploy/*.example")]
    for file in [ROOT / "README.md", *ROOT.glob("deploy/*.md"), *ROOT.glob("docs/*.md")]:
        for number, block in enumerate(re.findall(r"^```\w*\n(.*?)^```", file.read_text(), re.DOTALL | re.MULTILINE)):
            names = re.findall(r"^(?:# ?)?([A-Z_]+)=", block, re.MULTILINE)
            # Other blocks are for a shell.
            if len(names) == len(block.splitlines()) and names_read() & set(names):
                found.append((f"{file.name} block {number}", block))
    return found


@pytest.mark.parametrize(("place", "lines"), examples(), ids=lambda value: value if len(value) < 40 else "")
def test_every_example_works_as_it_is_printed(tmp_path: Path, place: str, lines: str) -> None:
    clone = Path(shutil.copytree(ROOT, tmp_path / "clone", ignore=NOT_IN_A_CLONE))
    (clone / ".env").write_text(f"SECRET_KEY={LONG_KEY}\n{lines}", encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, str(clone / "manage.py"), "check"],
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path / "var")},  # one of the examples names a real folder
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "simulator.W001" not in finished.stderr, "a name that is no setting"


def test_the_examples_are_found() -> None:
    assert {"README.md", "environment.example"} <= {place.split(" block")[0] for place, _ in examples()}


def test_the_readme_names_every_setting_that_is_read() -> None:
    table = set(
        re.findall(
            r"`([A-Z][A-Z_]+)`", "".join(re.findall(r"^\|.*\|$", (ROOT / "README.md").read_text(), re.MULTILINE))
        )
    )
    read = names_read()
    assert set(FAULTS) | {"VAR_DIR"} == read
    assert read == table


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


def test_openais_models_are_defaults_at_its_own_address_only(tmp_path: Path) -> None:
    show = "print(settings.OPENAI_FALLBACK_MODELS, settings.VARIANT_MODELS, bool(settings.OPENAI_API_KEYS))"
    command = ["shell", "-v", "0", "-c", f"from django.conf import settings; {show}"]
    elsewhere = {"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1", "OPENAI_MODEL": "llama3.2"}
    assert manage(*command, var=tmp_path, **elsewhere).stdout.strip() == "[] ['llama3.2'] True"
    at_openai = manage(*command, var=tmp_path, OPENAI_BASE_URL="https://api.openai.com/v1").stdout
    assert "['gpt-4.1-mini-2025-04-14', 'gpt-4.1-2025-04-14']" in at_openai
    assert at_openai.strip().endswith("False")
