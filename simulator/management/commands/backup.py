from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from simulator.backups import BackupError, back_up


class Command(BaseCommand):
    requires_system_checks = []  # a backup is wanted most where something is wrong
    help = "Write the database and the secret key into one file, also while the site is serving."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, metavar="PATH", help="A file that does not exist yet.")

    def handle(self, *args: Any, path: Path, **options: Any) -> None:
        try:
            size = back_up(path)
        except BackupError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename or path}: {error.strerror}.") from error
        self.stdout.write(f"Wrote {path} ({filesizeformat(size)}). Who can read it can read everything: keep it safe.")
