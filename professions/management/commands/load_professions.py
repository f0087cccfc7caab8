from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from professions.packs import PackError, load_packs


class Command(BaseCommand):
    help = "Load profession packs (YAML files, or folders that hold them); the shipped ones when no path is given."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")

    def handle(self, *args: Any, paths: list[Path], **options: Any) -> None:
        try:
            loaded = load_packs(paths)
        except PackError as error:
            raise CommandError(str(error)) from error
        for pack, changed in loaded:
            self.stdout.write(f"{pack.slug}: {'loaded' if changed else 'unchanged'}, {len(pack.briefs)} briefs")
