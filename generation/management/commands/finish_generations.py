import asyncio
from typing import Any

from django.core.management import BaseCommand

from generation import process, producer
from generation.upstream import chat


class Command(BaseCommand):
    help = "Write to their ends the texts that a process left and that nobody came back for. For a timer."

    def handle(self, *args: Any, **options: Any) -> None:
        finished = asyncio.run(_finish())
        if finished:  # a timer says nothing when nothing happened
            self.stdout.write(f"{finished} texts were taken over and written")


async def _finish() -> int:
    producer.event_log.start(on_cancel=producer.stop, on_fenced=producer.abandon)
    finished = 0
    while found := await process.sweep():
        await producer.wait_for_all()
        finished += found
    await producer.event_log.stop()
    await chat.close()
    return finished
