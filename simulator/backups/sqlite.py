import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import connection

from simulator.backups.archive import BackupError
from simulator.backups.database import migrate
from simulator.serving_lock import InUse, serving_lock


class SQLite:
    def __init__(self) -> None:
        self.path = Path(connection.settings_dict["NAME"])
        self.folder = self.path.parent

    def dump(self, file: Path) -> list[str]:
        if not self.path.exists():
            raise BackupError(f"There is no database at {self.path} yet.")
        with _errors_as_sentences(self.path), _opened(self.path) as source, _opened(file) as copy:
            # In one step: a copy in several begins again whenever a learner writes.
            source.backup(copy)
            _raise_if_damaged(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # so that the file is all there is
            rows = copy.execute("SELECT app, name FROM django_migrations")
            return sorted(".".join(row) for row in rows)

    @contextmanager
    def exclusive(self, *, overwrite: bool) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with serving_lock(self.path, shared=False):
                if self.path.exists() and not overwrite and not _is_empty(self.path):
                    raise BackupError(f"{self.path} is not empty; --overwrite replaces what it holds.")
                yield
        except InUse as error:
            raise BackupError(f"A server uses {self.path}; stop it first.") from error

    def replace(self, staged: Path) -> None:
        with _errors_as_sentences(staged), _opened(staged) as database:
            _raise_if_damaged(database)
        connection.close()
        connection.settings_dict["NAME"] = str(staged)
        try:
            migrate()
        finally:
            connection.close()
            connection.settings_dict["NAME"] = str(self.path)
        with _errors_as_sentences(staged), _opened(staged) as database:
            database.execute("PRAGMA journal_mode=DELETE")
        self._settle_log()
        staged.replace(self.path)
        _sync(self.folder)

    def _settle_log(self) -> None:
        """Bring the former database's write-ahead log into its file: it would be played into the new one."""
        if not self.path.exists():
            return
        try:
            with _opened(self.path) as former:
                former.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            raise BackupError(f"Another program uses {self.path}; stop it first ({error}).") from error
        except sqlite3.DatabaseError:  # it is damaged: its log goes with it, to where somebody may still look at both
            for suffix in ("", "-wal", "-shm"):
                former_file = Path(f"{self.path}{suffix}")
                if former_file.exists():
                    former_file.rename(f"{self.path}.damaged{suffix}")


def _opened(path: Path) -> "closing[sqlite3.Connection]":
    return closing(sqlite3.connect(path, timeout=10, isolation_level=None))


def _is_empty(path: Path) -> bool:
    """Return whether a file is a database without tables; one that cannot be read is not empty."""
    try:
        with _opened(path) as database:
            return database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    except sqlite3.DatabaseError:
        return False


def _raise_if_damaged(database: sqlite3.Connection) -> None:
    (finding,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise BackupError(f"The database is damaged: {finding}")


@contextmanager
def _errors_as_sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BackupError(f"{path} cannot be used as a database of this site: {error}") from error


def _sync(folder: Path) -> None:
    """Flush a change of names to the disk, so that it survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
