"""Producers: each writes one generation, as a task of the process and not of the request that wanted it.

Claim the row, take the text from upstream into the event log, save it, and only then announce the end. Whoever
asked may be long gone. A producer that falls silent loses its claim when its lease runs out; whoever takes over
writes under the next epoch, and nothing that the first still does counts.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from enum import Enum

from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.utils import timezone

from generation import budget, ending
from generation.budget import Reservation
from generation.failover import Failover, NoCandidateLeft
from generation.hedging import Allowance
from generation.kinds import SEPARATOR, kind_of
from generation.log import EventLog
from generation.model_request import ModelRequest
from generation.models import Attempt, Generation
from generation.offload import offload, offload_to_the_end
from generation.upstream import CompletionEnd, authored
from generation.upstream.chat import Clients
from generation.upstream.faults import UpstreamFault

logger = logging.getLogger("generation.producer")

# A written text is worth waiting for a database that comes back.
SAVE_AGAIN_AFTER_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


# A text that is held may be freed by another process, which tells nobody here.
LOOK_AGAIN_SECONDS = 1.0


class Interruption(Enum):
    """Why somebody interrupts a producer; the value is what the log says of it."""

    CANCELLED = "stopped by whoever asked for it"  # the text is kept
    LOST = "left to the process that took it over"  # nothing of it is kept
    LEAVING = "given back at the end of this process; another one, or the next start, writes it"


class _Interrupted(Exception):
    """A text is to stop here."""

    def __init__(self, why: Interruption) -> None:
        super().__init__(why.value)


class Producer:
    """Writes one text. `finished` is set when it has ended in whichever way."""

    def __init__(
        self, generation_id: uuid.UUID, *, owner: str, event_log: EventLog, clients: Clients, allowance: Allowance
    ) -> None:
        self.generation_id = generation_id
        self.owner = owner
        self.event_log = event_log
        self.clients = clients
        self.allowance = allowance
        self.finished = asyncio.Event()
        self.is_claimed = False
        self.is_saving = False
        self.pieces: list[str] = []
        self.first_token_at: datetime | None = None
        self.started = time.monotonic()
        self.interruption: Interruption | None = None
        self.deadline: asyncio.Timeout | None = None
        self.reservation: Reservation | None = None
        self.failover: Failover | None = None
        # What is to be stored of who wrote it, where an author's text is shown instead of a model's.
        self.fallback_values: dict[str, object] = {}
        # The texts that waited for this one and are to begin when it is stored.
        self.freed: Collection[uuid.UUID] = ()
        self._may_begin = asyncio.Event()
        # A mistake of ours in composing the request.
        self.mistake: Exception | None = None

    def stop(self) -> None:
        self._interrupt(Interruption.CANCELLED)

    def abandon(self) -> None:
        self._interrupt(Interruption.LOST)

    def release(self) -> None:
        self._interrupt(Interruption.LEAVING)

    def _interrupt(self, why: Interruption) -> None:
        has_ended = self.is_saving or self.interruption is not None
        if has_ended and why is not Interruption.LOST:
            return  # by itself, or by whoever came first
        self.interruption = why
        self.look_again()
        self._expire()

    def _expire(self) -> None:
        # Once: a time-out that expires already cannot be moved.
        deadline, self.deadline = self.deadline, None
        if deadline is not None:
            deadline.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        try:
            generation = await offload(self._claim)
            while generation is None and (seconds := await offload(self._seconds_held)):
                await self._wait_to_begin(seconds)
                if self.interruption is not None:
                    return
                generation = await offload(self._claim)
            if generation is not None:
                await self._write(generation)
        except DatabaseError:
            # The lease runs out, and whoever looks next takes over.
            logger.exception("text not stored generation=%s", self.generation_id)
            self.event_log.fail(self.generation_id)

    def look_again(self) -> None:
        """Begin at once, if the text is held no longer."""
        self._may_begin.set()

    def _seconds_held(self) -> float:
        generation = Generation.objects.filter(pk=self.generation_id).only("status", "held_until").first()
        return generation.seconds_held() if generation is not None else 0.0

    async def _wait_to_begin(self, seconds: float) -> None:
        """Wait until the text is held no longer, or it is time to look whether another process has freed it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, LOOK_AGAIN_SECONDS)):
                await self._may_begin.wait()
        self._may_begin.clear()

    def _claim(self) -> Generation | None:
        request = self._composed_request()
        with transaction.atomic():
            generation = Generation.objects.claim(self.generation_id, owner=self.owner, request=request)
            if generation is not None and generation.source == Generation.Source.MODEL:
                self.reservation = budget.reserve(generation.user_id, generation.request)
        return generation

    def _composed_request(self) -> ModelRequest | None:
        """Return how to ask a model, with what is known now; None where that is stored, or no model is to be asked.

        Composed before the claim's transaction, because SQLite lets nobody else write during it.
        """
        uncomposed = Generation.objects.filter(source=Generation.Source.MODEL, options__isnull=True)
        generation = uncomposed.filter(pk=self.generation_id).first()
        if generation is None:
            return None
        try:
            return kind_of(generation).request(generation)
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  # raised again where it ends the text; nobody may wait for ever
            self.mistake = error
            return None

    async def _write(self, generation: Generation) -> None:
        self.generation = generation
        self.is_claimed = True
        self.event_log.begin(generation.pk, generation.epoch)
        saved = False
        try:
            status, values = await self._outcome()
            self.is_saving = True
            if self.failover is not None:
                self._log_time("[TIMING] OpenAI streaming request total duration: %.3f seconds generation=%s")
            if self.interruption in {Interruption.LOST, Interruption.LEAVING}:
                await offload(self._store_what_was_spent)
            else:
                saved = await self._save(status, values)
        finally:
            self.is_claimed = False
            (self.event_log.end if saved else self.event_log.leave)(generation.pk, generation.epoch)

    async def _outcome(self) -> tuple[Generation.Status, dict[str, object]]:
        try:
            async with self._interruptible():
                values = await self._text()
        except _Interrupted as interrupted:
            logger.info("%s generation=%s", interrupted, self.generation.pk)
            return Generation.Status.CANCELLED, {"fault": "cancelled"}
        except UpstreamFault as fault:
            logger.warning("generation failed: %s (%s) generation=%s", fault.code, fault.label, self.generation.pk)
            return Generation.Status.FAILED, {"fault": fault.code, "fault_detail": str(fault)}
        except Exception:  # whatever mistake of ours it is, nobody may wait for this text for ever
            logger.exception("generation failed generation=%s", self.generation.pk)
            return Generation.Status.FAILED, {"fault": "interrupted"}
        self.interruption = None
        return Generation.Status.COMPLETED, values

    @asynccontextmanager
    async def _interruptible(self) -> AsyncGenerator[None, None]:
        try:
            async with asyncio.timeout(None) as self.deadline:
                if self.interruption is not None:
                    self._expire()
                yield
        except TimeoutError as timeout:
            if self.interruption is None:
                raise
            raise _Interrupted(self.interruption) from timeout
        finally:
            self.deadline = None

    async def _text(self) -> dict[str, object]:
        """Write the text, by a model where one is available, else by an author; return what is to be stored of it."""
        if self.mistake is not None:
            raise self.mistake
        if self.generation.source == Generation.Source.AUTHORED:
            return await self._replay(await offload(kind_of(self.generation).fallback, self.generation))
        if self.reservation is None:
            return await self._fall_back(Generation.AuthoredBecause.BUDGET, UpstreamFault("budget_exhausted", ""))
        self.failover = Failover(
            self.generation,
            clients=self.clients,
            allowance=self.allowance,
            on_text=self._on_text,
            on_reset=self._on_reset,
        )
        try:
            end = await self.failover.run()
        except NoCandidateLeft as left:
            return await self._fall_back(Generation.AuthoredBecause.NO_CANDIDATE, left.fault)
        kind, text = kind_of(self.generation), "".join(self.pieces)
        if end.was_cut and kind.is_continued_if_cut:
            end = await self.failover.continue_cut_text(text, end)
        elif (request := await offload(kind.follow_up, self.generation, text)) is not None:
            end = await self._follow_up(self.failover, request, end)
        if end.was_cut:
            logger.warning(
                "[STREAMING] the text was cut at its longest, %s tokens generation=%s",
                *(self.generation.request.max_tokens, self.generation.pk),
            )
        return {
            "model": end.model,
            "finish_reason": end.finish_reason,
            "prompt_tokens": end.prompt_tokens,
            "completion_tokens": end.completion_tokens,
            "cached_tokens": end.cached_tokens,
        }

    async def _follow_up(self, failover: Failover, request: ModelRequest, end: CompletionEnd) -> CompletionEnd:
        """Ask whoever wrote the text what its kind still wants of it, and put the answer behind the text."""
        answer = await failover.ask_again(end, request)
        if answer is None:
            return end
        text, new_end = answer
        self._on_text(f"{SEPARATOR}{text}")
        return new_end.behind(end)

    async def _fall_back(self, because: Generation.AuthoredBecause, fault: UpstreamFault) -> dict[str, object]:
        """Show the author's text instead of a model's. Raises the fault where there is none."""
        text = await offload(kind_of(self.generation).fallback, self.generation)
        if not text:
            raise fault
        logger.warning(
            "[STREAMING] %s (%s): the authored text is shown generation=%s",
            because.label,
            fault.code,
            self.generation.pk,
        )
        await self._on_reset()
        self.fallback_values = {"source": Generation.Source.AUTHORED, "authored_because": because}
        return await self._replay(text)

    async def _replay(self, text: str) -> dict[str, object]:
        async with aclosing(authored.replay(text)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    self._on_text(piece)
        return {"finish_reason": "stop"}

    async def _on_reset(self) -> None:
        """Withdraw what was shown, if anything was: the text begins again, under the next epoch."""
        if not self.pieces:
            return
        epoch = self.generation.epoch
        try:
            moved = await offload_to_the_end(self.generation.begin_again)
        finally:  # the log follows the row also when somebody interrupts just now
            self.event_log.leave(self.generation.pk, epoch)
            self.event_log.begin(self.generation.pk, self.generation.epoch)
        if not moved:
            self.interruption = Interruption.LOST
            raise _Interrupted(self.interruption)
        self.pieces.clear()

    def _on_text(self, piece: str) -> None:
        if self.first_token_at is None:
            self.first_token_at = timezone.now()
            logger.info(
                "[TIMING] First token received at %s generation=%s",
                self.first_token_at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
                self.generation.pk,
            )
            self._log_time("[TIMING] Time to first token: %.3f seconds generation=%s")
        self.pieces.append(piece)
        self.event_log.append(self.generation_id, self.generation.epoch, piece)

    async def _save(self, status: Generation.Status, values: dict[str, object]) -> bool:
        """Store how it ended; False when another process has taken over and nothing was stored."""
        values |= {"text": "".join(self.pieces), "first_token_at": self.first_token_at, **self.fallback_values}
        for number, pause in enumerate((*SAVE_AGAIN_AFTER_SECONDS, None)):
            try:
                stored = await offload(self._store, status, values)
            except (OperationalError, InterfaceError):
                if pause is None:
                    raise
                logger.warning("the database does not take the text yet generation=%s", self.generation.pk)
                if number:
                    self.event_log.fail(self.generation_id)  # readers are not kept waiting for what may take long
                await asyncio.sleep(pause)
            else:
                if not stored:
                    logger.warning("a later epoch took over, nothing stored generation=%s", self.generation.pk)
                return stored
        raise AssertionError("unreachable")

    @transaction.atomic
    def _store(self, status: Generation.Status, values: dict[str, object]) -> bool:
        waiting = ending.end(self.generation, status, values)
        if waiting is None and self.generation.has_ended():
            return True  # the answer to an earlier commit was lost
        self._store_what_was_spent()
        self.freed = waiting or ()
        return waiting is not None

    @transaction.atomic
    def _store_what_was_spent(self) -> None:
        attempts = self.failover.record() if self.failover is not None else []
        if attempts and Generation.objects.filter(pk=self.generation.pk).exists():
            Attempt.objects.bulk_create(attempts)
        if self.reservation is not None:
            budget.reconcile(self.reservation, spent=sum(attempt.tokens for attempt in attempts))

    def _log_time(self, line: str) -> None:
        logger.info(line, time.monotonic() - self.started, self.generation.pk)
