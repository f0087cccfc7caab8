"""Real PostgreSQL and Redis servers for tests, on free ports of 127.0.0.1."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import redis

from tests.waiting import free_port, required, wait_until

POSTGRES_PROGRAMS = "/usr/lib/postgresql/*/bin"


class Redis:
    """A Redis server that can be killed and started again, empty, at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url, decode_responses=True)
        self.start()

    def start(self) -> None:
        command = [required("redis-server"), "--port", str(self.port), "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([*command, "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL)
        wait_until(self._answers, what="Redis")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def entries(self, stream: str) -> list[str]:
        """The ids of a stream's entries, oldest first."""
        found: Any = self.client.xrange(stream)
        return [entry_id for entry_id, _ in found]

    def cut_connections(self) -> int:
        """Close the connections of everybody else; how many there were."""
        closed: Any = self.client.client_kill_filter(_type="normal", skipme=True)
        return int(closed)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.client.close()  # it connects again when it is asked again


class Postgres:
    """A PostgreSQL server with one empty database."""

    def __init__(self) -> None:
        # Not below pytest's own folder: each run that begins closes that to other users again.
        folder = self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.port = free_port()
        self.url = f"postgres://site@127.0.0.1:{self.port}/site"
        programs = next(iter(sorted(Path("/").glob(POSTGRES_PROGRAMS.lstrip("/")))), Path())
        initdb = required("initdb", also=str(programs))
        postgres = required("postgres", also=str(programs))
        data = folder / "data"
        user = _ordinary_user(folder) if os.geteuid() == 0 else None
        make = [initdb, "-D", str(data), "-U", "site", "-A", "trust", "-E", "UTF8"]
        subprocess.run(make, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
        options = ["-D", str(data), "-c", f"port={self.port}", "-c", f"unix_socket_directories={folder}"]
        self._command, self._user = [postgres, *options], user
        self.start()
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE site")

    def _address(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=site dbname={database}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._address("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def rows(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self._address("site"), autocommit=True) as connection:
            return connection.execute(statement, parameters).fetchall()

    def connections(self) -> int:
        """How many connections the site has, this one not counted."""
        ((count,),) = self.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'site' AND pid <> pg_backend_pid()"
        )
        assert isinstance(count, int)
        return count

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, user=self._user, cwd=self.folder, stderr=subprocess.DEVNULL)
        wait_until(self._answers, what="PostgreSQL")

    def go_away(self) -> None:
        """End, and leave what is stored for the next start."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def stop(self) -> None:
        self.go_away()
        shutil.rmtree(self.folder)


def _ordinary_user(folder: Path) -> str:
    """Give a folder to the user that PostgreSQL runs as where the tests run as root, which it refuses."""
    name = "postgres" if "postgres" in {user.pw_name for user in pwd.getpwall()} else "nobody"
    shutil.chown(folder, name)
    return name
