"""Through PostgreSQL's own programs, as new as the server or newer. The password goes to them in the environment."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from psycopg.conninfo import make_conninfo

from simulator.backups.archive import BackupError
from simulator.backups.database import applied_migrations, migrate

SCHEMA = "public"
DROP_TABLES = """DO $$ DECLARE name text; BEGIN
FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public'
LOOP EXECUTE format('DROP TABLE public.%I CASCADE', name); END LOOP; END $$"""


class PostgreSQL:
    def __init__(self) -> None:
        self.folder: Path = settings.VAR_DIR
        connection.settings_dict["OPTIONS"].pop("pool", None)  # its spare connections would count as others
        with _errors_as_sentences():
            connection.ensure_connection()
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_schema()")
                ((schema,),) = cursor.fetchall()
        if schema != SCHEMA:
            raise BackupError(
                f"The tables are not in PostgreSQL's schema {SCHEMA}; use pg_dump and pg_restore yourself."
            )
        server: psycopg.ConnectionInfo = connection.connection.info
        self.version = server.server_version // 10_000
        # Only what was set: the libpq inside psycopg knows parameters that the programs' may not know.
        known = connection.get_connection_params()
        self.address = make_conninfo("", **{k: v for k, v in server.get_parameters().items() if k in known})
        self.environment = os.environ | {"PGPASSWORD": server.password, "PGOPTIONS": "-c lock_timeout=10s"}

    def dump(self, file: Path) -> list[str]:
        with _errors_as_sentences(), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT pg_export_snapshot()")
            ((snapshot,),) = cursor.fetchall()
            migrations = applied_migrations()
            if not migrations:
                raise BackupError("There are no tables in the database yet.")
            ours = [f"--snapshot={snapshot}", f"--dbname={self.address}", f"--file={file}"]
            self._run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", *ours)
            return migrations

    @contextmanager
    def exclusive(self, *, overwrite: bool) -> Iterator[None]:
        with _errors_as_sentences(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            ((others,),) = cursor.fetchall()
            empty = not connection.introspection.table_names(cursor)
        if others:
            raise BackupError(f"{others} other connections use the database; stop every server first.")
        if not empty and not overwrite:
            raise BackupError("The database is not empty; --overwrite replaces what it holds.")
        yield

    def replace(self, staged: Path) -> None:
        script = staged.with_suffix(".sql")
        self._run("pg_restore", "--no-owner", "--no-privileges", f"--schema={SCHEMA}", f"--file={script}", str(staged))
        connection.close()
        # One transaction: whenever it breaks off, the former database is there as it was.
        quiet = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"]
        self._run("psql", *quiet, f"--dbname={self.address}", f"--command={DROP_TABLES}", f"--file={script}")
        migrate()

    def _run(self, name: str, *arguments: str) -> None:
        command = [self._program(name), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        if done.returncode:
            raise BackupError(_last_line(done.stderr))

    def _program(self, name: str) -> str:
        """Find a program of PostgreSQL that knows the server's version."""
        path = shutil.which(name)
        remedy = f"install postgresql-client-{self.version} or later"
        if path is None:
            raise BackupError(f"{name} is not installed; {remedy}.")
        printed = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"\) (\d+)", printed)
        if version is None or int(version[1]) < self.version:
            raise BackupError(f"{printed.strip() or path} is older than the server, which is {self.version}; {remedy}.")
        return path


def _last_line(errors: bytes) -> str:
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "PostgreSQL's program failed without a word."


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    try:
        yield
    except (DatabaseError, psycopg.Error) as error:
        raise BackupError(f"The database cannot be used: {' '.join(str(error).split())}") from error
