from typing import Any

from django.core.management import BaseCommand

from tasks.retention import delete_leftovers


class Command(BaseCommand):
    help = "Delete guests who never did anything, runs in which nothing happened, and what has expired. For a timer."

    def handle(self, *args: Any, **options: Any) -> None:
        counts = delete_leftovers()
        self.stdout.write("deleted: {guests} guests, {runs} runs, {tokens} tokens".format(**counts))
