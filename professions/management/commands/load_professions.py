from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from professions.loading import load_packs
from professions.packs import PackError


class Command(BaseCommand):
    help = "Load profession packs (YAML files, or folders that hold them); the shipped ones when no path is given."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
        parser.add_argument(
            "--overwrite", action="store_true", help="Also replace what staff have written since the last loading."
        )

    def handle(self, *args: Any, paths: list[Path], overwrite: bool, **options: Any) -> None:
        try:
            loaded = load_packs(paths, overwrite=overwrite)
        except PackError as error:
            raise CommandError(str(error)) from error
        for one in loaded:
            slug, count = one.pack.slug, len(one.pack.briefs)
            self.stdout.write(f"{slug}: {'loaded' if one.changed else 'unchanged'}, {count} briefs")
            for kept in one.kept:
                self.stdout.write(f"{slug}: kept as staff have it: {kept}")
        if any(one.kept for one in loaded):
            self.stdout.write("--overwrite takes what the packs say instead.")
