"""What a backup asks of a database."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder

from simulator.backups.archive import BackupError


class Database(Protocol):
    folder: Path
    """Where a restored database is laid before it takes the place of the former."""

    def dump(self, file: Path) -> list[str]:
        """Write the whole database as it is at one moment into a file, and return the migrations applied to it."""

    def exclusive(self, *, overwrite: bool) -> AbstractContextManager[None]:
        """Raise BackupError while the database is in use, or holds tables that may not be overwritten."""

    def replace(self, staged: Path) -> None:
        """Put what `dump` has written, migrated to this version of the site, in the place of the database."""


def applied_migrations() -> list[str]:
    return sorted(".".join(key) for key in MigrationRecorder(connection).applied_migrations())


def migrate() -> None:
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except DatabaseError as error:
        raise BackupError(f"The backup's tables cannot be brought to this version of the site: {error}") from error
