"""Fixtures: real servers in processes of their own, on the test database, with a fake provider behind them."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, Page, Playwright
from pytest_django import DjangoDbBlocker

from accounts.models import User
from accounts.tokens import create_token
from professions.models import Brief, Competency, Criterion, Profession, StateVariable
from tests.client import Client
from tests.fake_openai import AS_OPENAI, FakeOpenAI
from tests.stores import Postgres, Redis
from tests.waiting import free_port, required, wait_until
from web.static_files import collect_if_changed

ROOT = Path(__file__).parent.parent
# With it Django lets the database be used on an event loop. No server may have it: it would hide such a mistake.
ASYNC_UNSAFE = "DJANGO_ALLOW_ASYNC_UNSAFE"
# A provider that a test holds is waited for, however busy the machine is.
PATIENCE = {"LLM_FIRST_TOKEN_SECONDS": "600", "LLM_IDLE_SECONDS": "600", "LLM_TIMEOUT_SECONDS": "600"}
KEY = "sk-test-0123456789abcdefghijklmnopqrstuv"
SECRET_KEY = "of-tests-" + "0123456789abcdefghijklmnopqrstuvwxyz" * 2


# The files that take longest, longest first, so that no worker is left alone with one of them at the end.
LONGEST = (
    "test_install",
    "test_recovery",
    "test_backup",
    "test_many_processes",
    "test_nginx",
    "test_verify",
    "test_serve",
    "test_fuzzing",
    "test_tiny_model",
    "test_faults",
    "test_browser",
    "test_variants_page",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what uses a browser last: after it neither an event loop nor Django's test client runs in this thread.

    Workers take whole groups in this order: the tests of a file share servers, and those with a browser come last.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {'browser' if _uses_browser(item) else ''}"))
    items.sort(key=lambda item: (_uses_browser(item), _rank(item)))


def _uses_browser(item: pytest.Item) -> bool:
    return "browser" in getattr(item, "fixturenames", ())


def _rank(item: pytest.Item) -> int:
    return LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST)


@dataclass
class Server:
    """The site in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path
    unix_socket: Path | None = None  # instead of a port

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
            if self.unix_socket is None:
                return httpx2.get(f"{self.url}/healthz").status_code == 200
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.unix_socket))
                return True
        except (httpx2.TransportError, OSError):
            return False

    def sleep(self) -> None:
        """Stop the process between two transactions: asleep in one, it would lock everybody else out."""
        lock = sqlite3.connect(connection.settings_dict["NAME"], timeout=30)
        lock.execute("BEGIN IMMEDIATE")
        self.process.send_signal(signal.SIGSTOP)
        status = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T", what="the server's sleep")
        lock.close()

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.wake()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def new_tokens(count: int, *, environment: dict[str, str]) -> list[str]:
    """Make learners on the site that runs with this environment and give a token of each."""
    code = (
        "import uuid; from accounts.models import User; from accounts.tokens import create_token\n"
        f"for _ in range({count}): print('token', create_token(User.objects.create(username=str(uuid.uuid4()))))"
    )
    shell = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
    printed = subprocess.run(shell, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return re.findall(r"token (\w+)", printed.stdout)


@contextmanager
def awake(server: Server) -> Iterator[None]:
    """Let a server of the whole session work during one test.

    Without Redis a site is one process: another one on the same database would take over what it sees abandoned.
    """
    server.wake()
    yield
    server.sleep()


ServerStarter = Callable[..., Server]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[ServerStarter]:
    """Start servers on the test database; keyword arguments are environment variables."""
    started: list[Server] = []

    def start(*arguments: str, port: int | None = None, unix_socket: Path | None = None, **environment: str) -> Server:
        if unix_socket is not None:
            arguments = (*arguments, "--uds", str(unix_socket))
        port = port or free_port()
        url = f"http://127.0.0.1:{port}"
        log_file = tmp_path_factory.mktemp("server") / "log"
        own_to_tests = ("OPENAI_", "LLM_", ASYNC_UNSAFE)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(own_to_tests)}
        own = {
            "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
            "SITE_URL": url,
            "VAR_DIR": str(settings.VAR_DIR),
            **AS_OPENAI,
            **PATIENCE,
        }
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "error::ResourceWarning", "manage.py", "serve", "--port", str(port), *arguments],
                cwd=ROOT,
                env=clean | own | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        server = Server(process, url, log_file, unix_socket)
        started.append(server)
        wait_until(server.answers, what="the server's start")
        # Servers of the whole session sleep while others work on the same database.
        Path(f"{connection.settings_dict['NAME']}.serving").unlink(missing_ok=True)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def start_own_server(start_server: ServerStarter, transactional_db: None) -> Iterator[ServerStarter]:
    """Start servers that end with the test: one that went on would take over the texts of the tests that follow."""
    own: list[Server] = []

    def start(*arguments: str, **options: Any) -> Server:
        own.append(start_server(*arguments, **options))
        return own[-1]

    yield start
    for server in own:
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
def _start_shared_server(start_server: ServerStarter, django_db_blocker: DjangoDbBlocker) -> ServerStarter:
    """Start servers that sleep between tests, on a catalogue that holds what tests put there and nothing else."""

    def start(**environment: str) -> Server:
        server = start_server(**environment)
        with django_db_blocker.unblock():
            Profession.objects.all().delete()  # the first start has filled an empty catalogue
        server.sleep()
        return server

    return start


@pytest.fixture(scope="session")
def _server(_start_shared_server: ServerStarter, _provider: FakeOpenAI) -> Server:
    return _start_shared_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=_provider.base_url)


@pytest.fixture
def server(_server: Server, provider: FakeOpenAI, transactional_db: None) -> Iterator[Server]:
    """A server that has a model: the fake provider."""
    with awake(_server):
        yield _server


@pytest.fixture(scope="session")
def _authored_server(_start_shared_server: ServerStarter) -> Server:
    return _start_shared_server()


@pytest.fixture
def authored_server(_authored_server: Server, transactional_db: None) -> Iterator[Server]:
    """A server without any key."""
    with awake(_authored_server):
        yield _authored_server


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each run a database of its own: a file, because servers and background threads open it too."""
    settings.DATABASES["default"]["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "db.sqlite3")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    server.kill()


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


def make_marked_profession(slug: str = "nursery", *, briefs: int = 2) -> Profession:
    """Make a profession whose answers are marked by three criteria and move a state."""
    profession = make_profession(slug, briefs=briefs)
    StateVariable.objects.create(profession=profession, order=1, slug="trust", title="Amara's trust", start=60)
    looking = Competency.objects.create(profession=profession, order=1, slug="looking", title="Looking")
    asking = Competency.objects.create(profession=profession, order=2, slug="asking", title="Asking")
    for brief in profession.ordered_briefs:
        cause = brief.criteria.get()
        cause.competency = looking
        cause.levels = [
            {
                "points": 0,
                "description": "No cause.",
                "effects": {"trust": -15},
                "because": "nobody looked at the leaves",
                "note": f"Amara has asked a neighbour about bed {brief.order}.",
            },
            {"points": 2, "description": "Mildew.", "effects": {"trust": 10}, "because": "the cause was named"},
        ]
        cause.save()
        for order, (slug, title) in enumerate([("asks-first", "Asks first"), ("says-when", "Says when")], start=2):
            Criterion.objects.create(
                brief=brief,
                order=order,
                slug=slug,
                title=title,
                points=3,
                competency=asking,
                levels=[
                    {"points": 0, "description": f"{title}: no."},
                    {"points": 1, "description": f"{title}: half."},
                    {"points": 3, "description": f"{title}: yes."},
                ],
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
def playwright(playwright: Playwright) -> Iterator[Playwright]:
    """Playwright, whose synchronous API keeps an event loop running in the tests' own thread: Django would refuse the
    ORM there."""
    os.environ[ASYNC_UNSAFE] = "true"
    yield playwright
    del os.environ[ASYNC_UNSAFE]


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
    """A browser profile of its own."""
    with_context = browser.new_context(locale="en-GB")
    with_context.set_default_timeout(15_000)
    yield with_context
    with_context.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that fails its test when it asks another host for anything, or when a script or a policy complains."""
    page = context.new_page()
    foreign: list[str] = []
    complaints: list[str] = []
    page.on(
        "request",
        lambda asked: None if re.match(r"http://127\.0\.0\.1:|data:", asked.url) else foreign.append(asked.url),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if "Content Security Policy" in line.text else None)
    yield page
    assert foreign == []
    assert complaints == []
