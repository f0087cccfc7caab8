"""`manage.py serve` as somebody meets it who has just cloned the repository and set nothing."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.conftest import ROOT, Server, ServerStarter
from tests.waiting import IN_CI, free_port, required, wait_until

NOT_IN_A_CLONE = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "var", "vendor", "tests")
PASSWORD = re.compile(r"user staff, password (\S+)")
STATIC = re.compile(r'(?:src|href)="(/static/[^"]+)"')
IMPORTED = re.compile(r'from\s*"\./([^"]+)"')
HASHED = re.compile(r"\.[0-9a-f]{12}\.\w+$")
THIRD_PARTY = "/static/vendor/"
EVERYWHERE = "0.0.0.0"  # noqa: S104  # what the operator chose
FOR_EVER = "max-age=315360000, public, immutable"


def manage(clone: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(clone / "manage.py"), *arguments]


@contextmanager
def serving(clone: Path) -> Iterator[Server]:
    """Start the clone with nothing but PATH in the environment."""
    port = free_port()
    log_file = clone.parent / f"log-{port}"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            manage(clone, "serve", "--port", str(port)),
            cwd=clone.parent,
            env={"PATH": os.environ["PATH"]},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log_file)
    try:
        wait_until(server.answers, what="the server's start")
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files a fresh clone has, without those that npm would add."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("fresh") / "clone", ignore=NOT_IN_A_CLONE))


@pytest.fixture(scope="module")
def first_start(clone: Path) -> Iterator[Server]:
    with serving(clone) as server:
        yield server


@pytest.fixture
def started_before(first_start: Server, clone: Path, tmp_path: Path) -> Path:
    """A clone that was started once, with everything that start made, and that nobody serves now."""
    return Path(shutil.copytree(clone, tmp_path / "clone"))


def test_the_first_start_prints_a_password_that_opens_the_admin(first_start: Server, clone: Path) -> None:
    (password,) = PASSWORD.findall(first_start.log)
    assert first_start.log.count(password) == 1
    assert not any(password.encode() in file.read_bytes() for file in (clone / "var").iterdir() if file.is_file())
    form = {"login": "staff", "password": password}
    with httpx2.Client(base_url=first_start.url, timeout=60) as browser:
        door = browser.get("/admin/login/?next=/admin/").headers["location"]
        assert browser.post(door, data=form).status_code == 403, "without the form's token"
        assert "csrfmiddlewaretoken" in browser.get(door).text
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        wrong = browser.post(door, data=form | {"password": "staff"})
        assert wrong.status_code == 200
        entered = browser.post(door, data=form)
        assert (entered.status_code, entered.headers["location"]) == (302, "/admin/")
        assert browser.get("/admin/professions/brief/").status_code == 200
        assert_static_files_are_kept(first_start, STATIC.findall(browser.get("/admin/").text))


def test_the_first_start_has_three_professions_and_needs_no_key(first_start: Server) -> None:
    listed = httpx2.get(f"{first_start.url}/api/professions").json()
    assert [(item["slug"], item["task_count"]) for item in listed] == [
        ("nurse", 5),
        ("project-manager", 5),
        ("site-reliability-engineer", 5),
    ]
    assert httpx2.get(f"{first_start.url}/readyz").status_code == 200


def test_the_icon_that_browsers_look_for_by_themselves_is_there(first_start: Server) -> None:
    icon = httpx2.get(f"{first_start.url}/favicon.ico", follow_redirects=True)
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
    assert "Not Found: /favicon" not in first_start.log


def test_a_site_that_was_told_no_address_says_the_port_it_has(first_start: Server) -> None:
    refused = httpx2.get(f"{first_start.url}/api/professions", headers={"Host": "elsewhere.example"})
    assert refused.json()["detail"] == f"This site answers at {first_start.url}."


@pytest.mark.parametrize("path", ["/", "/professions/nurse", "/accounts/login/"])
def test_static_files_are_named_by_their_content_and_kept_for_ever(first_start: Server, path: str) -> None:
    assert_static_files_are_kept(first_start, STATIC.findall(httpx2.get(f"{first_start.url}{path}").text))


def assert_static_files_are_kept(first_start: Server, waiting: list[str]) -> None:
    assert any(address.endswith(".css") for address in waiting)
    seen: set[str] = set()
    while waiting:
        address = waiting.pop()
        if address in seen or address.startswith(THIRD_PARTY):
            continue
        seen.add(address)
        assert HASHED.search(address), address
        answered = httpx2.get(f"{first_start.url}{address}")
        assert (answered.status_code, answered.headers["cache-control"]) == (200, FOR_EVER), address
        if address.endswith(".js"):
            waiting += [f"{address.rpartition('/')[0]}/{name}" for name in IMPORTED.findall(answered.text)]


def test_without_npm_the_pages_name_third_party_files_as_they_are_and_with_it_by_their_content(
    first_start: Server, authored_server: Server
) -> None:
    def third_party_files(server: Server) -> list[str]:
        addresses = STATIC.findall(httpx2.get(f"{server.url}/").text)
        return [address for address in addresses if address.startswith(THIRD_PARTY)]

    assert "/static/vendor/bootstrap.min.css" in third_party_files(first_start)
    if not (ROOT / "web" / "static" / "vendor" / ".copied").exists():
        (pytest.fail if IN_CI else pytest.skip)("npm's files are not there; `make vendor` brings them")
    for address in third_party_files(authored_server):
        assert HASHED.search(address), address
        answered = httpx2.get(f"{authored_server.url}{address}")
        assert (answered.status_code, answered.headers["cache-control"]) == (200, FOR_EVER), address


def test_a_later_start_prints_no_password_and_collects_only_what_changed(started_before: Path) -> None:
    marker = started_before / "var" / "static" / "marker"  # collecting clears the folder
    marker.touch()
    with serving(started_before) as second:
        assert not PASSWORD.search(second.log)
        assert len(httpx2.get(f"{second.url}/api/professions").json()) == 3
        assert marker.exists()
    with (started_before / "web" / "static" / "web" / "css" / "site.css").open("a") as sheet:
        sheet.write("/* another colour */\n")
    with serving(started_before) as third:
        assert not marker.exists()
        addresses = STATIC.findall(httpx2.get(f"{third.url}/").text)
        (changed,) = [address for address in addresses if "/css/site." in address]
        assert "another colour" in httpx2.get(f"{third.url}{changed}").text


def test_a_profession_that_staff_removed_does_not_come_back_by_itself(started_before: Path) -> None:
    remove = "from professions.models import Profession; Profession.objects.exclude(slug='nurse').delete()"
    subprocess.run(manage(started_before, "shell", "-c", remove), env={"PATH": os.environ["PATH"]}, check=True)
    with serving(started_before) as later:
        assert [item["slug"] for item in httpx2.get(f"{later.url}/api/professions").json()] == ["nurse"]
    subprocess.run(manage(started_before, "load_professions"), env={"PATH": os.environ["PATH"]}, check=True)


def test_several_processes_without_redis_are_refused_with_the_reason(clone: Path, tmp_path: Path) -> None:
    refused = subprocess.run(
        manage(clone, "serve", "--workers", "2", "--port", str(free_port())),
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 1
    assert "2 processes are to serve without REDIS_URL: a learner whose stream" in refused.stderr
    assert "Set REDIS_URL, or serve with one process" in refused.stderr
    assert not (tmp_path / "db.sqlite3").exists()


@pytest.mark.parametrize(
    ("host", "site", "said"),
    [
        (
            EVERYWHERE,
            "http://127.0.0.1:{port}",
            "would reach it at http://{own}:{port}, but the site answers at http://127",
        ),
        (
            EVERYWHERE,
            "http://203.0.113.9:80",
            "would reach it at http://{own}:{port}, but the site answers at http://203",
        ),
        (EVERYWHERE, "http://class.local:8000", "reach it at http://class.local:8000\n"),
        ("127.0.0.1", "http://127.0.0.1:{port}", ""),
        (EVERYWHERE, "https://try.example.org", ""),
    ],
)
def test_who_lets_other_computers_in_is_told_their_address_and_what_to_set(
    start_own_server: ServerStarter, host: str, site: str, said: str
) -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            own = probe.getsockname()[0]
        except OSError:  # no way out: the name has to do
            own = socket.gethostname()
    log = start_own_server("--host", host, port=port, SITE_URL=site.format(port=port)).log
    assert f"Serving on http://{host}:{port}\n" in log
    if said:
        assert f"Other computers {said.format(port=port, own=own)}" in log
        assert (f"Set SITE_URL=http://{own}:{port} in the environment or in .env" in log) == ("would" in said)
    else:
        assert "Other computers" not in log


def test_make_lets_other_computers_in(tmp_path: Path) -> None:
    for target in ["run", "dev"]:
        shown = subprocess.run(
            [required("make"), "-n", target, "HOST=0.0.0.0", "PORT=8123"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "manage.py serve --host 0.0.0.0 --port 8123" in shown.stdout


def test_a_second_server_on_the_same_database_is_refused_with_what_to_do(first_start: Server, clone: Path) -> None:
    refused = subprocess.run(
        manage(clone, "serve", "--port", str(free_port())),
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 1
    assert f"Another process serves {clone / 'var' / 'db.sqlite3'} already. Stop it, or set REDIS_URL" in refused.stderr
    assert first_start.answers()


def test_a_killed_server_leaves_the_database_to_the_next_one(started_before: Path) -> None:
    with serving(started_before) as killed:
        killed.process.kill()
        with serving(started_before) as next_one:
            assert next_one.answers()


def test_sigterm_ends_the_server(started_before: Path) -> None:
    with serving(started_before) as server:
        server.process.terminate()
        assert server.process.wait(60) in {0, -15}
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/healthz")


def test_a_server_without_a_lifespan_answers_nothing_and_the_log_says_what_to_use(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--lifespan", "off", "--port", str(port), "simulator.asgi:application"]
    environment = os.environ | {"VAR_DIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as server:

        def refuses() -> bool:
            try:
                return httpx2.get(f"http://127.0.0.1:{port}/").status_code == 500
            except httpx2.TransportError:
                return False

        wait_until(refuses, what="an answer")
        server.terminate()
        _, log = server.communicate(timeout=60)
    assert "Nothing would write texts: this server has no lifespan. Use manage.py serve." in log
