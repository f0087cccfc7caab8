"""What can stand against a start is a sentence each, and nothing is half done by then."""

import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from simulator.environment import UnusableSettings
from simulator.listener import CannotListen, address_of, bind, bind_unix, listen, port_number
from simulator.var_folder import keep_secret_key
from simulator.whole_file import whole_file
from tests.conftest import ROOT, SECRET_KEY, Server
from tests.stores import Postgres
from tests.test_settings import manage
from tests.waiting import free_port, required, wait_until

AS_AN_ORDINARY_USER = ("--bounding-set", "-dac_override,-dac_read_search,-fowner,-net_bind_service")


def sentence(*arguments: str, var: Path, before: tuple[str, ...] = (), **environment: str) -> str:
    """Return the one line that a refused `serve` prints."""
    command = [*before, sys.executable, "manage.py", "serve", *(arguments or ("--port", "0"))]
    own = {"PATH": os.environ["PATH"], "VAR_DIR": str(var)} | environment
    finished = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "Serving on" not in finished.stdout
    assert "password" not in finished.stdout, "the first password is lost when nothing serves"
    lines = [line for line in finished.stderr.splitlines() if " INFO " not in line and " WARNING " not in line]
    assert len(lines) == 1, finished.stderr
    return lines[0]


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "var"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port_is_named_with_a_free_one_before_anything_is_made(var: Path, taken: int) -> None:
    found = sentence("--port", str(taken), var=var)
    match = re.fullmatch(rf"CommandError: Port {taken} is taken; PORT=(\d+) chooses another", found)
    assert match is not None, found
    with socket.create_server(("127.0.0.1", int(match[1]))):
        assert int(match[1]) > taken
    assert not (var / "db.sqlite3").exists()


def test_an_address_that_cannot_be_served_on_is_a_sentence_before_anything_is_made(var: Path) -> None:
    assert "192.0.2.1 is no address of this machine; 127.0.0.1 is" in sentence("--host", "192.0.2.1", var=var)
    assert "'65536' is no port; choose a number from 1 to 65535" in sentence("--port", "65536", var=var)
    assert "'two' is no number of processes; choose 1 or more" in sentence("--workers", "two", var=var)
    assert not (var / "db.sqlite3").exists()


@pytest.mark.parametrize("text", ["65536", "-1", "http", "٨", "1.5", "", "9" * 5000])
def test_what_is_no_port_is_named(text: str) -> None:
    with pytest.raises(CannotListen, match="is no port; choose a number from 1 to 65535, or 0 for any free one"):
        port_number(text)


@pytest.mark.parametrize("host", ["no.such.invalid", "a..b", "http://127.0.0.1"])
def test_a_host_that_nobody_knows_is_named(host: str) -> None:
    with pytest.raises(CannotListen, match=r"is not known here; 127\.0\.0\.1 is this machine"):
        bind(host, 0)


def test_a_privileged_port_is_a_sentence(var: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("every port is everybody's here")
    assert "Port 81 is for root alone; PORT=8000" in sentence("--port", "81", var=var, before=_ordinary())


def _ordinary() -> tuple[str, ...]:
    """Return what makes root obey the permissions of files and ports; nothing where the tests are not root's."""
    return (required("setpriv"), *AS_AN_ORDINARY_USER) if os.geteuid() == 0 else ()


def test_of_two_that_bind_at_the_same_moment_the_second_is_told() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port) as second:
            listen(first, backlog=1)
            with pytest.raises(CannotListen, match=f"Port {port} is taken; PORT="):
                listen(second, backlog=1)


def test_a_unix_socket_is_taken_over_from_a_server_that_is_gone_alone(tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    with bind_unix(path) as serving:
        listen(serving, backlog=1)
        with pytest.raises(CannotListen, match="is taken; stop what serves there, or choose another path"):
            bind_unix(path)
        with socket.socket(socket.AF_UNIX) as proxy:
            proxy.connect(str(path))
    bind_unix(path).close()
    path.unlink()
    path.write_text("mine")
    with pytest.raises(CannotListen, match="is taken"):
        bind_unix(path)
    assert path.read_text() == "mine"
    with pytest.raises(CannotListen, match="cannot be made: No such file or directory; choose a folder"):
        bind_unix(tmp_path / "none" / "site.sock")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_is_printed_in_brackets(host: str) -> None:
    with bind(host, 0) as bound:
        assert address_of(bound) == f"http://[::1]:{bound.getsockname()[1]}"


def test_port_0_prints_the_real_one_and_everything_made_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    var = tmp_path / "a b#c?d%20é"
    var.mkdir(mode=0o755)
    var.chmod(0o755)
    (var / "secret_key").write_text(SECRET_KEY)
    (var / "secret_key").chmod(0o644)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--port", "0"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "VAR_DIR": str(var)},
            stdout=output,
            stderr=subprocess.STDOUT,
            umask=0,
        )
    server = Server(process, "", log)
    try:
        served = re.compile(r"Serving on (http://127\.0\.0\.1:\d+)")
        wait_until(lambda: bool(served.search(server.log)), what="the address")
        (server.url,) = served.findall(server.log)
        assert server.port > 0
        wait_until(server.answers, what="an answer")
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        with sqlite3.connect(var / "db.sqlite3") as database:
            database.execute("SELECT 1 FROM professions_profession").fetchone()
            assert {"db.sqlite3-wal", "db.sqlite3-shm"} <= {file.name for file in var.iterdir()}
        assert stat.S_IMODE(var.stat().st_mode) == 0o700
        for file in var.iterdir():
            if file.is_file():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert f"{var} could be read by others; now only its owner can" in server.log
        assert f"{var / 'secret_key'} could be read by others" in server.log
    finally:
        server.stop()
    assert not list(tmp_path.glob("*db.sqlite3*")), "a path is no URL"


def test_a_server_that_is_started_by_hand_makes_files_for_its_owner_alone(tmp_path: Path) -> None:
    database, log = tmp_path / "elsewhere" / "db.sqlite3", tmp_path / "log"
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "simulator.asgi:application", "--port", str(port)],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path / "var"), "DATABASE_URL": f"sqlite:///{database}"},
            stdout=output,
            stderr=subprocess.STDOUT,
            umask=0,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_until(server.answers, what="an answer")
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        assert stat.S_IMODE(database.stat().st_mode) == 0o600
    finally:
        server.stop()


def test_a_folder_that_holds_other_things_is_left_open_and_said_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "photographs").mkdir()
    finished = manage("check", var=tmp_path)
    assert finished.returncode == 0
    assert f"{tmp_path} can be read by others, and stays so because it holds 'photographs' too" in finished.stderr
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert sentence(var=file) == f"VAR_DIR is {file}, which is a file; name a folder"
    assert f"the folder {file / 'var'} cannot be used: Not a directory. Make room and let" in sentence(var=file / "var")
    assert "VAR_DIR is /tmp, which is shared by everybody; name a folder" in sentence(var=Path("/tmp"))  # noqa: S108
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert f"the folder {closed} cannot be used: Permission denied" in sentence(var=closed, before=_ordinary())
    assert f"{closed / 'var'} cannot be used: Permission denied" in sentence(var=closed / "var", before=_ordinary())


@pytest.mark.parametrize("content", ["", "x" * 20, "x" * 64, "ключ" * 20])
def test_a_damaged_key_is_named_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    key = tmp_path / "secret_key"
    key.write_text(content)
    with pytest.raises(UnusableSettings, match=r"is damaged \(it holds .*restore it from a backup, or delete it"):
        keep_secret_key(tmp_path)
    assert key.read_text() == content


def test_a_key_that_a_crash_left_empty_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    assert sentence(var=tmp_path).startswith(
        f"{tmp_path / 'secret_key'} is damaged (it holds 0 characters); restore it"
    )


def test_of_two_that_write_a_file_at_the_same_moment_the_first_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write_while_another_does() -> None:
        with whole_file(path) as late:
            late.write(b"late")
            assert not path.exists(), "there is no half of a file at any time"
            with whole_file(path) as fast:
                fast.write(b"fast")

    with pytest.raises(FileExistsError):
        write_while_another_does()
    with pytest.raises(FileExistsError), whole_file(path):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"fast"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_full_disk_is_a_sentence_and_leaves_no_half_of_a_key(tmp_path: Path) -> None:
    # The folder itself takes a page of this file system, and a file of zeros the other.
    script = (
        f'mount -t tmpfs -o size=8k,mode=700 none "{tmp_path}"; cat /dev/zero > "{tmp_path}/.full" 2>&4; '
        f'"$@"; code=$?; ls "{tmp_path}" >&3; exit $code'
    )
    seen = tmp_path.with_name("seen")
    before = (required("unshare"), "-m", "sh", "-c", f'exec 3> "{seen}" 4> /dev/null; {script}', "sh")
    assert sentence(var=tmp_path, before=before) == (
        f"the file {tmp_path / 'secret_key'} cannot be used: No space left on device. Make room and let the user root "
        "write there, or name another folder in VAR_DIR"
    )
    assert seen.read_text() == ""


def test_a_device_is_no_database_and_stays_open_to_everybody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    told = sentence(var=tmp_path, DATABASE_URL=f"sqlite:///{pipe}")
    assert f"{pipe} is no file; name one in DATABASE_URL" in told
    assert pipe.stat().st_mode & 0o777 == 0o666


def test_a_database_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    database = tmp_path / "db.sqlite3"
    database.write_bytes(b"not a database at all, whatever its name says")
    no_database = f"The database {database} cannot be used: file is not a database. Restore it from a backup, or move"
    assert no_database in sentence(var=tmp_path)
    assert manage("load_professions", var=tmp_path).stderr.startswith(no_database)
    database.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    assert f"The database {database} cannot be used: " in sentence(var=tmp_path)
    assert "Restore it from a backup, or move it away" in sentence(var=tmp_path)
    database.unlink()
    sqlite3.connect(database).close()
    database.touch()
    database.chmod(0o400)
    assert f"the database {database} cannot be used: Permission denied" in sentence(var=tmp_path, before=_ordinary())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_files_of_another_user_are_a_sentence(tmp_path: Path) -> None:
    for name in ("db.sqlite3", "secret_key"):
        (tmp_path / name).write_text(SECRET_KEY if name == "secret_key" else "")
        (tmp_path / name).chmod(0o600)
        shutil.chown(tmp_path / name, "nobody")
        assert f"{tmp_path / name} cannot be used: Permission denied" in sentence(var=tmp_path, before=_ordinary())
        (tmp_path / name).unlink()


def test_a_disk_that_fills_during_the_first_start_is_a_sentence_and_the_next_start_begins_anew(var: Path) -> None:
    found = sentence(var=var, before=(required("prlimit"), "--fsize=100000"))
    assert f"The database {var / 'db.sqlite3'} cannot be used: " in found
    assert "Make room" in found
    assert not list(var.glob("db.sqlite3*-*"))
    assert not (var / "db.sqlite3").exists()


def test_a_database_without_tables_is_a_sentence_in_every_command(var: Path) -> None:
    finished = manage("load_professions", var=var)
    assert finished.returncode == 1
    assert finished.stderr == (
        f"The database {var / 'db.sqlite3'} cannot be used: no such table: professions_profession. Run manage.py "
        "migrate, or start the site once\n"
    )


def test_a_database_server_that_is_closed_or_says_nothing_is_a_sentence(var: Path, taken: int) -> None:
    closed = f"postgres://me:hidden@127.0.0.1:{free_port()}/sim"
    found = sentence(var=var, DATABASE_URL=closed, SECRET_KEY=SECRET_KEY)
    assert "The database sim at 127.0.0.1 port" in found
    assert "Connection refused" in found
    assert "Look at DATABASE_URL, and whether a database answers there" in found
    assert "hidden" not in found
    silent = f"postgres://me:hidden@127.0.0.1:{taken}/sim?connect_timeout=2"
    assert "connection timeout expired" in sentence(var=var, DATABASE_URL=silent, SECRET_KEY=SECRET_KEY)


def test_what_a_database_url_asks_for_holds(postgres: Postgres, var: Path) -> None:
    found = sentence(var=var, DATABASE_URL=f"{postgres.url}?sslmode=require", SECRET_KEY=SECRET_KEY)
    assert "server does not support SSL, but SSL was required" in found
    assert "Look at sslmode in DATABASE_URL" in found
