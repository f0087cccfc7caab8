"""Producers: each writes one generation, as a task of the process and not of the request that wanted it.

Claim the row, take the text from upstream into the event log, save it, and only then announce the end. Whoever
asked may be long gone.
"""

import asyncio
import contextvars
import logging
import os
import secrets
import socket
import time
import uuid
from collections.abc import Coroutine
from datetime import datetime

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from generation.log import EventLog
from generation.log.memory import MemoryLog
from generation.models import RENEW_SECONDS, Generation
from generation.offload import offload
from generation.upstream import Ending, Pieces, authored, chat
from generation.upstream.faults import UpstreamFault

logger = logging.getLogger("generation.producer")

event_log: EventLog = MemoryLog()
OWNER = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

_writing: dict[uuid.UUID, "_Writing"] = {}
_tasks: set[asyncio.Task[None]] = set()  # asyncio itself keeps weak references only


def ensure(generation_id: uuid.UUID) -> None:
    """Have this text written here, unless it is already; harmless when another process has it."""
    if generation_id in _writing:
        return
    if not _writing:
        _detach(_renew_leases())
    writing = _writing[generation_id] = _Writing(generation_id)
    _detach(writing.run())


async def cancel(generation_id: uuid.UUID) -> None:
    """Stop a text: its provider connection is closed and what was written is kept."""
    if writing := _writing.get(generation_id):
        writing.stop()
        await writing.finished.wait()
    await offload(Generation.objects.cancel_unclaimed, generation_id)


def _detach(work: Coroutine[None, None, None]) -> None:
    # A context of its own: the request's holds an executor that is shut down when the request ends.
    task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _renew_leases() -> None:
    """Renew what this process writes, for as long as it writes anything."""
    while _writing:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            await offload(Generation.objects.renew, list(_writing), owner=OWNER)
        except DatabaseError:
            # The next round may succeed. If none does, the leases run out, and that is right: somebody else takes over.
            logger.exception("leases could not be renewed")


class _Writing:
    """One text being written by this process."""

    def __init__(self, generation_id: uuid.UUID) -> None:
        self.generation_id = generation_id
        self.finished = asyncio.Event()
        self.stop_wanted = False
        self.pieces: list[str] = []
        self.first_token_at: datetime | None = None
        self.started = time.monotonic()
        self.deadline: asyncio.Timeout | None = None

    def stop(self) -> None:
        """Have the writing end as cancelled, now or as soon as it begins."""
        self.stop_wanted = True
        if self.deadline is not None:
            self.deadline.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        try:
            generation = await offload(Generation.objects.claim, self.generation_id, owner=OWNER)
            if generation is not None:
                await self._write(generation)
        except DatabaseError:
            # The lease runs out, and whoever looks next takes over.
            logger.exception("the database failed, text not stored generation=%s", self.generation_id)
        finally:
            del _writing[self.generation_id]
            self.finished.set()

    async def _write(self, generation: Generation) -> None:
        self.generation = generation
        event_log.begin(generation.pk, generation.epoch)
        try:
            status, values = await self._outcome()
            if generation.source == Generation.Source.MODEL:
                self._log_time("[TIMING] OpenAI streaming request total duration: %.3f seconds generation=%s")
            await self._save(status, values)
        finally:
            event_log.end(generation.pk, generation.epoch)

    async def _outcome(self) -> tuple[Generation.Status, dict[str, object]]:
        try:
            ending = await self._collect(self._upstream())
        except UpstreamFault as fault:
            if self.stop_wanted:
                logger.info("generation cancelled generation=%s", self.generation.pk)
                return Generation.Status.CANCELLED, {"fault": "cancelled"}
            logger.warning("generation failed: %s (%s) generation=%s", fault.code, fault, self.generation.pk)
            return Generation.Status.FAILED, {"fault": fault.code, "fault_detail": str(fault)}
        return Generation.Status.COMPLETED, {
            "model": ending.model,
            "finish_reason": ending.finish_reason,
            "prompt_tokens": ending.prompt_tokens,
            "completion_tokens": ending.completion_tokens,
            "cached_tokens": ending.cached_tokens,
        }

    def _upstream(self) -> Pieces:
        if self.generation.source == Generation.Source.AUTHORED:
            return authored.replay(self.generation.authored_text)
        return chat.stream(self.generation.messages)

    async def _collect(self, upstream: Pieces) -> Ending:
        """Take everything from upstream within the deadlines; comments and other non-tokens do not extend them."""
        loop = asyncio.get_running_loop()
        whole = loop.time() + settings.LLM_TIMEOUT_SECONDS
        try:
            async with asyncio.timeout_at(min(whole, loop.time() + settings.LLM_FIRST_TOKEN_SECONDS)) as deadline:
                self.deadline = deadline
                if self.stop_wanted:
                    self.stop()
                async for piece in upstream:
                    if isinstance(piece, Ending):
                        return piece
                    self._take(piece)
                    if not self.stop_wanted:
                        deadline.reschedule(min(whole, loop.time() + settings.LLM_IDLE_SECONDS))
        except TimeoutError as late:
            waited_for = "the next token" if self.pieces else "the first token"
            raise UpstreamFault("provider_timeout", f"no end in time; waited for {waited_for}") from late
        finally:
            self.deadline = None
            await upstream.aclose()
        raise UpstreamFault("broken_stream", "the text stopped without an end")

    def _take(self, piece: str) -> None:
        if self.first_token_at is None:
            self.first_token_at = timezone.now()
            logger.info(
                "[TIMING] First token received at %s generation=%s",
                self.first_token_at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
                self.generation.pk,
            )
            self._log_time("[TIMING] Time to first token: %.3f seconds generation=%s")
        self.pieces.append(piece)
        event_log.append(self.generation.pk, self.generation.epoch, piece)

    async def _save(self, status: Generation.Status, values: dict[str, object]) -> None:
        text = "".join(self.pieces)
        stored = await offload(
            self.generation.save_end, status, text=text, first_token_at=self.first_token_at, **values
        )
        if not stored:
            logger.warning("a later epoch took over, nothing stored generation=%s", self.generation.pk)

    def _log_time(self, line: str) -> None:
        logger.info(line, time.monotonic() - self.started, self.generation.pk)
