"""Fixtures: real servers in processes of their own, on the test database, with a fake provider behind them."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import connection
from playwright.sync_api import Browser, BrowserContext

from accounts.models import User
from accounts.tokens import create_token
from professions.models import Brief, Criterion, Profession
from simulator.static_files import collect_if_changed
from tests.client import Client
from tests.fake_openai import FakeOpenAI

# Playwright's synchronous API keeps an event loop running in the tests' own thread, where Django then refuses the ORM.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

ROOT = Path(__file__).parent.parent
KEY = "sk-test-0123456789abcdefghijklmnopqrstuv"
IN_CI = os.environ.get("CI") == "true"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what uses a browser last: after it neither an event loop nor Django's test client runs in this thread."""
    items.sort(key=lambda item: "browser" in getattr(item, "fixturenames", ()))


def required(program: str) -> str:
    """Give the path of a program that a test needs; skips without it, fails in CI."""
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    if path is None:
        (pytest.fail if IN_CI else pytest.skip)(f"{program} is not installed")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], *, what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.02)  # between two looks at the condition


@dataclass
class Server:
    """The site in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def answers(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the server ended with {self.process.returncode}:\n{self.log}")
        try:
            return httpx2.get(f"{self.url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


ServerStarter = Callable[..., Server]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[ServerStarter]:
    """Start servers on the test database; keyword arguments are environment variables."""
    started: list[Server] = []

    def start(*arguments: str, port: int | None = None, **environment: str) -> Server:
        port = port or free_port()
        url = f"http://127.0.0.1:{port}"
        log_file = tmp_path_factory.mktemp("server") / "log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LLM_"))}
        own = {
            "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
            "SITE_URL": url,
            "VAR_DIR": str(settings.VAR_DIR),
        }
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "error::ResourceWarning", "manage.py", "serve", "--port", str(port), *arguments],
                cwd=ROOT,
                env=clean | own | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        server = Server(process, url, log_file)
        started.append(server)
        wait_until(server.answers, what="the server's start", seconds=60)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def _provider() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def provider(_provider: FakeOpenAI) -> Iterator[FakeOpenAI]:
    """The fake provider behind `server`, as new."""
    _provider.reset()
    yield _provider
    _provider.reset()


@pytest.fixture(scope="session")
def _server(start_server: ServerStarter, _provider: FakeOpenAI) -> Server:
    return start_server(
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=_provider.base_url,
        LLM_FIRST_TOKEN_SECONDS="1.5",
        LLM_IDLE_SECONDS="1.5",
    )


@pytest.fixture
def server(_server: Server, provider: FakeOpenAI, transactional_db: None) -> Server:
    """A server that has a model: the fake provider."""
    return _server


@pytest.fixture(scope="session")
def _patient_server(start_server: ServerStarter, _provider: FakeOpenAI) -> Server:
    return start_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=_provider.base_url)


@pytest.fixture
def patient_server(_patient_server: Server, provider: FakeOpenAI, transactional_db: None) -> Server:
    """A server with the same model that waits as long as servers do by default."""
    return _patient_server


@pytest.fixture(scope="session")
def _authored_server(start_server: ServerStarter) -> Server:
    return start_server()


@pytest.fixture
def authored_server(_authored_server: Server, transactional_db: None) -> Server:
    """A server without any key."""
    return _authored_server


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each run a database of its own: a file, because servers and background threads open it too."""
    settings.DATABASES["default"]["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "db.sqlite3")


@pytest.fixture(scope="session")
def static_files() -> None:
    """Pages name their static files by hash, so those have to be there when no server collects them."""
    collect_if_changed()


def make_profession(slug: str = "gardener", *, briefs: int = 3, published: bool = True) -> Profession:
    profession = Profession.objects.create(
        slug=slug,
        title=slug.capitalize(),
        tagline=f"What a {slug} does all day.",
        description=f"You are a **{slug}** in Port Ellary.",
        system_prompt=f"You write tasks for a {slug}.",
        report_opening="You have seen three days in the garden.",
        report_closing="Plant something this week.",
        published=published,
    )
    for order in range(1, briefs + 1):
        brief = Brief.objects.create(
            profession=profession,
            order=order,
            slug=f"brief-{order}",
            title=f"Bed number {order}",
            time_limit_minutes=10,
            description=f"PLAN {order}: the roses of bed {order} have mildew.",
            authored_text=f"It is day {order}. Amara asks about the roses in bed {order}.\n\n**What do you tell her?**",
            expert_answer=f"EXPERT {order}: cut back a third, water at the root.",
        )
        Criterion.objects.create(
            brief=brief,
            order=1,
            slug="names-the-cause",
            title="Names the cause",
            points=2,
            levels=[{"points": 0, "description": "No cause."}, {"points": 2, "description": f"LEVEL {order}: mildew."}],
        )
    return profession


@pytest.fixture
def profession(db: None) -> Profession:
    return make_profession()


@pytest.fixture(scope="session")
def _password() -> str:
    return make_password("correct horse battery")


@pytest.fixture
def alice(db: None, _password: str) -> User:
    return User.objects.create(username="alice", email="alice@example.org", password=_password)


@pytest.fixture
def bob(db: None, _password: str) -> User:
    return User.objects.create(username="bob", email="bob@example.org", password=_password)


@pytest.fixture
def alice_token(alice: User) -> str:
    return create_token(alice)


@pytest.fixture
def as_alice(server: Server, alice_token: str) -> Iterator[Client]:
    with Client(server.url, token=alice_token) as client:
        yield client


@pytest.fixture
def as_bob(server: Server, bob: User) -> Iterator[Client]:
    with Client(server.url, token=create_token(bob)) as client:
        yield client


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    """Debian's Chromium, quiet on a machine that reaches nothing."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    return {
        "executable_path": required("chromium"),
        "args": ["--no-sandbox", "--disable-gpu", "--disable-quic", *quiet],
    }


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile of its own that notes every address asked for, in `foreign_requests` of the test's page."""
    with_context = browser.new_context(locale="en-GB")
    with_context.set_default_timeout(15_000)
    yield with_context
    with_context.close()
