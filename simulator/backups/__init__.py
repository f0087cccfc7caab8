"""One file that holds the whole site: its database and its secret key."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from simulator.backups.archive import DATABASE, KEY, BackupError, Manifest, unpack, write_archive
from simulator.backups.database import Database
from simulator.backups.postgresql import PostgreSQL
from simulator.backups.sqlite import SQLite
from simulator.environment import Unusable, secret_key

__all__ = ["BackupError", "back_up", "restore"]


def back_up(path: Path) -> int:
    """Write a backup, also while the site is serving, and return its size in bytes. Raises BackupError and OSError."""
    database = _database()
    with _folder_beside(database, prefix=".backup-") as folder:
        migrations = database.dump(folder / DATABASE)
        (folder / KEY).write_text(settings.SECRET_KEY, encoding="utf-8")
        write_archive(
            path,
            Manifest(engine=connection.vendor, created=datetime.now(UTC).isoformat(), migrations=migrations),
            folder,
        )
    return path.stat().st_size


def restore(path: Path, *, overwrite: bool) -> list[str]:
    """Replace database and key by those of a backup, and return what the operator should know.

    Nothing is touched before the whole backup was read and found sound, and then the database is replaced at once:
    whenever this is interrupted, either the former or the restored database is there. Raises BackupError and OSError.
    """
    database = _database()
    with database.exclusive(overwrite=overwrite), _folder_beside(database, prefix=".restore-") as folder:
        manifest = unpack(path, folder)
        if manifest.engine != connection.vendor:
            raise BackupError(
                f"{path} holds a database of {manifest.engine!r}, and DATABASE_URL names one of {connection.vendor}."
            )
        if unknown := sorted(set(manifest.migrations) - _known_migrations()):
            raise BackupError(
                f"{path} was made by a later version of the site ({unknown[0]!r} is unknown to this one); update first."
            )
        _raise_if_unusable(folder / KEY, path)
        database.replace(folder / DATABASE)  # the key last: without it people log in again, that is all
        return [f"Restored the database of {manifest.created}.", _restore_key(folder / KEY)]


def _database() -> Database:
    engines: dict[str, type[Database]] = {"sqlite": SQLite, "postgresql": PostgreSQL}
    return engines[connection.vendor]()


@contextmanager
def _folder_beside(database: Database, *, prefix: str) -> Iterator[Path]:
    """Yield a folder, readable by its owner alone, from which a file can be moved to the database's place at once."""
    database.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=database.folder) as folder:
        yield Path(folder)


def _known_migrations() -> set[str]:
    known = MigrationLoader(None).disk_migrations
    replaced = {key for migration in known.values() for key in migration.replaces}
    return {".".join(key) for key in known.keys() | replaced}


def _raise_if_unusable(staged: Path, path: Path) -> None:
    """Raise BackupError for a key with which the site would not start."""
    try:
        secret_key(staged.read_bytes().decode())
    except (UnicodeDecodeError, Unusable) as fault:
        raise BackupError(f"{path} is damaged: the secret key in it cannot be used.") from fault


def _restore_key(staged: Path) -> str:
    """Put the key where this site keeps its own, and return a sentence on it."""
    kept = settings.VAR_DIR / "secret_key"
    if staged.read_text(encoding="utf-8") == settings.SECRET_KEY:
        return "Its secret key is the one in use."
    if not kept.exists() or kept.read_text(encoding="utf-8").strip() != settings.SECRET_KEY:
        return (
            "SECRET_KEY in the environment is not the one of the backup, so everybody has to log in again. "
            "`unzip -p BACKUP secret_key` shows the other."
        )
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:  # readable by its owner alone
        file.write(staged.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(kept)
    return f"Restored the secret key in {kept}."
