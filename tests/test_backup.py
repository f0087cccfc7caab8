"""`manage.py backup` and `manage.py restore`, as an operator runs them, on both kinds of database."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.conftest import ROOT, SECRET_KEY, Server
from tests.stores import Postgres
from tests.waiting import free_port, required, wait_until

PASSWORD = "Zaphod-42"


@dataclass
class Site:
    """A site of its own, in a folder and a database of its own."""

    folder: Path
    database: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "db.sqlite3"

    def command(self, *arguments: str, **environment: str) -> tuple[list[str], dict[str, str]]:
        own = {"PATH": os.environ["PATH"], "VAR_DIR": str(self.folder)} | self.environment | environment
        return [sys.executable, "manage.py", *arguments], own

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        command, own = self.command(*arguments, **environment)
        return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)

    def done(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, **environment: str) -> str:
        """Run a command that is to fail, and return its sentence."""
        refused = self.run(*arguments, **environment)
        assert refused.returncode == 1, refused.stdout
        (sentence,) = refused.stderr.splitlines()
        return sentence

    def rows(self, statement: str) -> list[tuple[str]]:
        if self.database:
            with psycopg.connect(self.database, autocommit=True) as server:
                done = server.execute(statement.encode())
                return done.fetchall() if done.description else []
        with closing(sqlite3.connect(self.file, isolation_level=None)) as file:
            return file.execute(statement).fetchall()

    def log_in(self, who: str) -> None:
        self.rows(f"INSERT INTO django_session VALUES ('{who}', '', '2099-01-01 00:00:00+00:00')")  # noqa: S608 -- a name from below

    def logged_in(self) -> list[str]:
        return [who for (who,) in self.rows("SELECT session_key FROM django_session ORDER BY session_key")]

    def empty(self, folder: Path, *, like: str = "template1") -> "Site":
        """Return a site of the same kind with nothing in it."""
        if not self.database:
            return Site(folder)
        name = f"restored_{uuid4().hex}"
        with psycopg.connect(self.database.rpartition("/")[0] + "/postgres", autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name} TEMPLATE {like}".encode())
        return at(self.database.rpartition("/")[0] + f"/{name}", folder)

    @contextmanager
    def serving(self) -> Iterator[Server]:
        port = free_port()
        command, own = self.command("serve", "--port", str(port))
        log_file = self.folder.parent / f"log-{port}"
        with log_file.open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=own, stdout=log, stderr=subprocess.STDOUT)
        server = Server(process, f"http://127.0.0.1:{port}", log_file)
        try:
            wait_until(server.answers, what="the server's start")
            yield server
        finally:
            server.stop()


def at(database: str, folder: Path) -> Site:
    return Site(folder, database, {"DATABASE_URL": database, "SECRET_KEY": SECRET_KEY})


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site on SQLite without anything in its tables."""
    made = Site(tmp_path_factory.mktemp("migrated"))
    made.done("migrate", "-v", "0")
    return made


@pytest.fixture(scope="module")
def migrated_on_postgres(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Site:
    required("pg_dump")
    folder = tmp_path_factory.mktemp("migrated")
    made = at(postgres.url.replace("site@", f"site:{PASSWORD}@"), folder).empty(folder)
    made.done("migrate", "-v", "0")
    return made


@pytest.fixture
def on_sqlite(migrated: Site, tmp_path: Path) -> Site:
    """A site in which alice is logged in."""
    made = Site(Path(shutil.copytree(migrated.folder, tmp_path / "site")))
    made.log_in("alice")
    return made


@pytest.fixture
def on_postgres(migrated_on_postgres: Site, tmp_path: Path) -> Site:
    """The same on PostgreSQL."""
    made = migrated_on_postgres.empty(tmp_path / "site", like=migrated_on_postgres.database.rpartition("/")[2])
    made.folder.mkdir(mode=0o700)
    made.log_in("alice")
    return made


@pytest.fixture(params=["on_sqlite", "on_postgres"])
def site(request: pytest.FixtureRequest) -> Site:
    made: Site = request.getfixturevalue(request.param)
    return made


# What concerns the file alone is the same on both.
one_kind = pytest.mark.parametrize("site", ["on_sqlite"], indirect=True)


@pytest.fixture
def backup(site: Site, tmp_path: Path) -> Path:
    path = tmp_path / "site.backup"
    site.done("backup", str(path))
    return path


def rewritten(backup: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write the files of a backup into another one after a change to them."""
    with zipfile.ZipFile(backup) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    path = backup.with_name("rewritten.backup")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def with_manifest(backup: Path, **values: object) -> Path:
    def change(files: dict[str, bytes]) -> None:
        files["manifest.json"] = json.dumps(json.loads(files["manifest.json"]) | values).encode()

    return rewritten(backup, change)


def test_a_backup_is_restored_into_an_empty_site(site: Site, backup: Path, tmp_path: Path) -> None:
    other = site.empty(tmp_path / "other")
    assert "Restored the database of " in other.done("restore", str(backup))
    assert other.logged_in() == ["alice"]
    other.log_in("bob")
    assert site.logged_in() == ["alice"]


def test_a_backup_can_be_read_by_its_owner_alone_and_leaves_nothing_else_behind(site: Site, backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert [file for file in backup.parent.iterdir() if file.name.startswith(".")] == []
    assert list(site.folder.glob(".backup-*")) == []


@one_kind
def test_a_backup_overwrites_nothing(site: Site, backup: Path) -> None:
    before = backup.read_bytes()
    assert f"{backup} exists already" in site.refused("backup", str(backup))
    assert backup.read_bytes() == before


def test_a_backup_is_made_while_the_site_serves(site: Site, tmp_path: Path) -> None:
    with site.serving() as server:
        site.log_in("bob")
        site.done("backup", str(tmp_path / "serving.backup"))
        assert server.answers()
    other = site.empty(tmp_path / "other")
    other.done("restore", str(tmp_path / "serving.backup"))
    assert set(other.logged_in()) == {"alice", "bob"}
    with other.serving() as restored:
        assert "password" not in restored.log, "the staff account is the one of the backup"


def test_a_restore_is_refused_while_a_server_runs(site: Site, backup: Path) -> None:
    with site.serving() as server:
        site.log_in("bob")
        assert "stop" in site.refused("restore", "--overwrite", str(backup))
        assert server.answers()
    assert "bob" in site.logged_in()


def test_a_database_that_is_not_empty_is_replaced_only_when_told_so(site: Site, backup: Path) -> None:
    site.log_in("bob")
    assert "--overwrite replaces what it holds" in site.refused("restore", str(backup))
    assert site.logged_in() == ["alice", "bob"]
    site.done("restore", "--overwrite", str(backup))
    assert site.logged_in() == ["alice"]


@one_kind
def test_damage_anywhere_in_a_backup_is_seen_before_anything_is_touched(site: Site, backup: Path) -> None:
    site.log_in("bob")
    whole = backup.read_bytes()
    damaged = backup.with_name("damaged.backup")
    shortened = [whole[:length] for length in (0, 100, len(whole) // 2, len(whole) - 1)]
    places = (80, len(whole) // 3, len(whole) // 2, len(whole) - 400)
    for content in [*shortened, *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places)]:
        damaged.write_bytes(content)
        assert str(damaged) in site.refused("restore", "--overwrite", str(damaged))
    assert site.logged_in() == ["alice", "bob"]


@one_kind
@pytest.mark.parametrize("key", [b"\xff" * 60, b"short", b"a" * 60])
def test_a_key_that_would_stop_the_next_start_is_refused_before_anything_is_touched(
    site: Site, backup: Path, key: bytes
) -> None:
    def another_key(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        manifest["digests"]["secret_key"] = hashlib.sha256(key).hexdigest()
        files |= {"secret_key": key, "manifest.json": json.dumps(manifest).encode()}

    site.log_in("bob")
    refused = site.refused("restore", "--overwrite", str(rewritten(backup, another_key)))
    assert "the secret key in it cannot be used" in refused
    assert site.logged_in() == ["alice", "bob"]


@one_kind
def test_what_is_not_a_backup_of_this_site_is_refused(site: Site, backup: Path, tmp_path: Path) -> None:
    def other_database(files: dict[str, bytes]) -> None:
        files["database"] += b" "

    def outside(files: dict[str, bytes]) -> None:
        files["../escaped"] = files.pop("secret_key")

    def one_more(files: dict[str, bytes]) -> None:
        files["more"] = b""

    def long_key(files: dict[str, bytes]) -> None:
        files["secret_key"] = b"k" * 5000

    site.log_in("bob")
    hostile = [rewritten(backup, change) for change in (other_database,)]
    assert "database is not what was written" in site.refused("restore", "--overwrite", str(hostile[0]))
    for change, sentence in [
        (outside, "is not a backup of this site"),
        (one_more, "is not a backup of this site"),
        (long_key, "secret_key is too large"),
    ]:
        assert sentence in site.refused("restore", "--overwrite", str(rewritten(backup, change)))
    wrong: list[dict[str, object]] = [{"format": 2}, {"migrations": 7}, {"created": "\x1b[2J"}, {"digests": "none"}]
    for values in wrong:
        refused = site.refused("restore", "--overwrite", str(with_manifest(backup, **values)))
        assert "is not a backup that this version of the site can read" in refused
    assert "does not exist" in site.refused("restore", "--overwrite", str(tmp_path / "nothing"))
    assert not (tmp_path / "escaped").exists()
    assert site.logged_in() == ["alice", "bob"]


@one_kind
def test_a_backup_that_would_fill_the_disk_is_refused(site: Site, backup: Path) -> None:
    size = 2**62

    def huge(files: dict[str, bytes]) -> None:
        files["database"] = b"small"

    path = rewritten(backup, huge)
    with zipfile.ZipFile(path) as archive:
        files = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.getinfo("database").file_size = size  # what the directory at the end of the file says
    assert "needs more room than there is" in site.refused("restore", "--overwrite", str(path))


@one_kind
def test_a_backup_of_a_later_version_or_another_kind_of_database_is_refused(site: Site, backup: Path) -> None:
    later = with_manifest(backup, migrations=["accounts.9999_later"])
    assert "accounts.9999_later" in site.refused("restore", "--overwrite", str(later))
    other = with_manifest(backup, engine="mysql")
    assert "holds a database of 'mysql'" in site.refused("restore", "--overwrite", str(other))


def test_a_backup_of_an_earlier_version_is_migrated(site: Site, tmp_path: Path) -> None:
    site.done("migrate", "-v", "0", "knox", "zero")
    site.done("backup", str(tmp_path / "earlier.backup"))
    other = site.empty(tmp_path / "other")
    other.done("restore", str(tmp_path / "earlier.backup"))
    assert other.logged_in() == ["alice"]
    assert "[ ]" not in other.done("showmigrations")


def test_a_restore_that_is_killed_loses_nothing(site: Site, backup: Path) -> None:
    site.log_in("bob")
    command, own = site.command("restore", "--overwrite", str(backup))
    with subprocess.Popen(command, cwd=ROOT, env=own) as restoring:
        wait_until(lambda: bool(list(site.folder.glob(".restore-*/*"))), what="the restore's own copy")
        restoring.send_signal(signal.SIGKILL)
    assert site.logged_in() in (["alice", "bob"], ["alice"])
    site.done("restore", "--overwrite", str(backup))
    assert site.logged_in() == ["alice"]


@one_kind
def test_every_failure_of_the_file_system_is_a_sentence(site: Site, backup: Path, tmp_path: Path) -> None:
    assert "No such file or directory" in site.refused("backup", str(tmp_path / "no" / "such" / "folder"))
    assert f"{tmp_path} exists already" in site.refused("backup", str(tmp_path))
    assert "Is a directory" in site.refused("restore", "--overwrite", str(tmp_path))
    backup.with_name("file").touch()
    assert "File exists" in site.refused("backup", str(backup.with_name("file") / "below"))


def test_the_key_is_restored_where_the_site_keeps_its_own(on_sqlite: Site, tmp_path: Path) -> None:
    site, other, path = on_sqlite, Site(tmp_path / "other"), tmp_path / "backup"
    site.done("backup", str(path))
    assert f"Restored the secret key in {other.folder / 'secret_key'}" in other.done("restore", str(path))
    assert (other.folder / "secret_key").read_bytes() == (site.folder / "secret_key").read_bytes()
    assert stat.S_IMODE((other.folder / "secret_key").stat().st_mode) == 0o600
    assert stat.S_IMODE(other.file.stat().st_mode) == 0o600
    elsewhere = Site(tmp_path / "elsewhere", environment={"SECRET_KEY": SECRET_KEY[::-1]})
    assert "everybody has to log in again" in elsewhere.done("restore", str(path))
    assert not (elsewhere.folder / "secret_key").exists()


def test_a_database_that_another_program_has_open_is_left_as_it_is(on_sqlite: Site, tmp_path: Path) -> None:
    site, path = on_sqlite, tmp_path / "backup"
    site.done("backup", str(path))
    site.log_in("bob")
    with closing(sqlite3.connect(site.file)) as program:
        program.execute("BEGIN")
        program.execute("SELECT 1 FROM accounts_user").fetchall()
        assert "Another program uses" in site.refused("restore", "--overwrite", str(path))
    assert site.logged_in() == ["alice", "bob"]


def test_a_damaged_database_is_replaced_and_kept(on_sqlite: Site, tmp_path: Path) -> None:
    site, path = on_sqlite, tmp_path / "backup"
    site.done("backup", str(path))
    site.file.write_bytes(b"not a database" * 100)
    assert "--overwrite" in site.refused("restore", str(path))
    site.done("restore", "--overwrite", str(path))
    assert site.logged_in() == ["alice"]
    assert Path(f"{site.file}.damaged").read_bytes().startswith(b"not a database")


def test_a_restore_is_refused_while_processes_that_share_redis_serve(on_sqlite: Site, tmp_path: Path) -> None:
    site, path = on_sqlite, tmp_path / "backup"
    site.environment["SECRET_KEY"] = SECRET_KEY
    site.done("backup", str(path))
    site.environment["REDIS_URL"] = "redis://127.0.0.1:1/0"
    with site.serving():
        assert f"A server uses {site.file}; stop it first" in site.refused("restore", "--overwrite", str(path))


def instead_of(program: str, script: str, folder: Path) -> str:
    """Put a script before one of PostgreSQL's programs, and return the PATH that finds it first."""
    path = folder / "programs" / program
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"{path.parent}:{os.environ['PATH']}"


def test_the_password_is_on_no_command_line(on_postgres: Site, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    real = required("pg_dump")
    script = f'echo "$@" >> {seen}; echo "$PGPASSWORD" >> {seen}.password; exec {real} "$@"'
    done = on_postgres.run("backup", str(tmp_path / "backup"), PATH=instead_of("pg_dump", script, tmp_path))
    assert done.returncode == 0, done.stderr
    assert "--snapshot=" in seen.read_text()
    assert PASSWORD not in seen.read_text()
    assert PASSWORD in Path(f"{seen}.password").read_text()


def test_a_program_that_is_missing_old_or_failing_is_named_with_what_to_do(on_postgres: Site, tmp_path: Path) -> None:
    path = str(tmp_path / "backup")
    missing = on_postgres.refused("backup", path, PATH=str(tmp_path))
    assert "pg_dump is not installed; install postgresql-client-" in missing
    old = instead_of("pg_dump", 'echo "pg_dump (PostgreSQL) 9.6.24"', tmp_path)
    assert "pg_dump (PostgreSQL) 9.6.24 is older than the server" in on_postgres.refused("backup", path, PATH=old)
    real = required("pg_dump")
    failing = instead_of("pg_dump", f'test "$1" = --version && exec {real} "$@"; echo "no room" >&2; exit 1', tmp_path)
    assert "no room" in on_postgres.refused("backup", path, PATH=failing)
    assert not Path(path).exists()
    away = on_postgres.refused("backup", path, DATABASE_URL=f"postgres://site@127.0.0.1:{free_port()}/site")
    assert "The database cannot be used" in away


def test_a_restore_that_breaks_off_in_the_middle_leaves_the_former_tables(on_postgres: Site, tmp_path: Path) -> None:
    path = str(tmp_path / "backup")
    on_postgres.done("backup", path)
    on_postgres.log_in("bob")
    real = required("psql")
    script = f'test "$1" = --version && exec {real} "$@"; exec {real} "$@" --command="SELECT pg_sleep(600)"'
    command, own = on_postgres.command("restore", "--overwrite", path, PATH=instead_of("psql", script, tmp_path))
    watching = psycopg.connect(on_postgres.database.rpartition("/")[0] + "/site", autocommit=True)

    def asleep() -> list[tuple[int]]:
        query = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%' AND state = 'active'"
        return watching.execute(query).fetchall()

    with watching, subprocess.Popen(command, cwd=ROOT, env=own, start_new_session=True) as restoring:
        wait_until(lambda: bool(asleep()), what="the last step of the restore")
        os.killpg(restoring.pid, signal.SIGKILL)
        restoring.wait()
        watching.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
        wait_until(lambda: not asleep(), what="the end of the broken transaction")
    assert on_postgres.logged_in() == ["alice", "bob"]
    on_postgres.done("restore", "--overwrite", path)
    assert on_postgres.logged_in() == ["alice"]


def test_tables_of_a_later_version_are_gone_after_a_restore(on_postgres: Site, tmp_path: Path) -> None:
    path = str(tmp_path / "backup")
    on_postgres.done("backup", path)
    with psycopg.connect(on_postgres.database, autocommit=True) as connection:
        connection.execute("CREATE TABLE later (person bigint REFERENCES accounts_user)")
    on_postgres.done("restore", "--overwrite", path)
    with psycopg.connect(on_postgres.database) as connection:
        assert connection.execute("SELECT to_regclass('later')").fetchone() == (None,)
