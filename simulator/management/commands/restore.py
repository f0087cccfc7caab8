from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from simulator.backups import BackupError, restore


class Command(BaseCommand):
    requires_system_checks = []  # a restore is wanted most where something is wrong
    help = "Replace the database and the secret key by those of a backup. Stop the site first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, metavar="PATH", help="A file that `backup` has written.")
        parser.add_argument("--overwrite", action="store_true", help="Replace a database that is not empty.")

    def handle(self, *args: Any, path: Path, overwrite: bool, **options: Any) -> None:
        try:
            for line in restore(path, overwrite=overwrite):
                self.stdout.write(line)
        except BackupError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename or path}: {error.strerror}.") from error
