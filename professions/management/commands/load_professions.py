from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from professions.packs import PackError, pack_files, read_pack, store_pack


class Command(BaseCommand):
    help = "Load profession packs (YAML files, or folders that hold them); the shipped ones when no path is given."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")

    def handle(self, *args: Any, paths: list[Path], **options: Any) -> None:
        files = pack_files(paths)
        if not files:
            raise CommandError("No .yaml file there; name a pack or a folder that holds some.")
        try:
            packs = [read_pack(path) for path in files]
            for pack in packs:
                changed = store_pack(pack)
                self.stdout.write(f"{pack.slug}: {'loaded' if changed else 'unchanged'}, {len(pack.briefs)} briefs")
        except PackError as error:
            raise CommandError(str(error)) from error
