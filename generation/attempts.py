"""Attempts: one candidate asked for one text, from the question to what became of it."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from django.conf import settings
from django.utils import timezone

from generation import budget
from generation.model_request import ModelRequest
from generation.models import Attempt, Generation
from generation.upstream import CompletionEnd, Piece, Pieces, Withdrawn, Working, prices
from generation.upstream.candidates import Candidate, Choice
from generation.upstream.chat import Clients
from generation.upstream.faults import UpstreamFault

logger = logging.getLogger("generation.attempts")

# Written to its end, failed, or ended by us: overtaken or stopped.
Result = CompletionEnd | UpstreamFault | Attempt.Outcome


class OngoingAttempt:
    """One candidate being asked for one text.

    It knows what became of it: `result` is None while it lasts. Whatever ends it closes the provider's connection.

    Args:
        request: what it is asked.
        number: its place among the attempts of this text, from 1.
        most: how many there may be.
        until: when the time for the whole text is over, in the event loop's clock.
    """

    def __init__(
        self,
        choice: Choice,
        generation: Generation,
        request: ModelRequest,
        *,
        number: int,
        most: int,
        until: float,
        is_hedge: bool = False,
    ) -> None:
        self.choice = choice
        self.generation = generation
        self.request = request
        self.number = number
        self.most = most
        self.until = until
        self.is_hedge = is_hedge
        self.result: Result | None = None
        # Whether the candidate's health says what was learned here; staff and the next text go by that.
        self.is_recorded = False
        # Whether it turned out to begin with its thoughts without saying so.
        self.thinks_first = False
        self._pieces: Pieces | None = None
        self._characters = 0
        self._first_token_seconds: float | None = None
        self._seconds = 0.0
        self._epoch = 0

    @property
    def fault(self) -> UpstreamFault | None:
        return self.result if isinstance(self.result, UpstreamFault) else None

    @property
    def was_begun(self) -> bool:
        return self._pieces is not None

    @property
    def _name(self) -> tuple[int, int, Candidate]:
        return self.number, self.most, self.choice.candidate

    def begin(self, clients: Clients) -> None:
        self._pieces = clients.stream(
            self.choice.candidate,
            self.request,
            refused=self.choice.refused,
            thinks_first=self.choice.thinks_first,
        )
        self._started_at = timezone.now()
        self._started = time.monotonic()
        beside = " beside a slow one" if self.is_hedge else ""
        logger.info("[STREAMING] attempt %s of %s: %s%s generation=%s", *self._name, beside, self.generation.pk)

    async def first_piece(self) -> str | CompletionEnd:
        """Return what comes first of the text, or its end.

        Raises UpstreamFault, also when nothing comes in LLM_FIRST_TOKEN_SECONDS, or in LLM_IDLE_SECONDS after the last
        sign that the model is at work.
        """
        async with (
            self._failing(),
            _deadline(self.until, settings.LLM_FIRST_TOKEN_SECONDS, "the first token") as extend,
        ):
            while not isinstance(piece := await self._next(), str | CompletionEnd):
                extend(settings.LLM_IDLE_SECONDS)
        self._first_token_seconds = time.monotonic() - self._started
        return piece

    async def remaining(
        self,
        first: str | CompletionEnd,
        *,
        on_text: Callable[[str], None],
        on_withdrawn: Callable[[], Awaitable[None]],
    ) -> CompletionEnd:
        """Hand the first piece and all that follow to `on_text`, and return how the text ended.

        `on_withdrawn` is awaited where what came so far turned out to be no text. Raises UpstreamFault, also when
        nothing comes for LLM_IDLE_SECONDS.
        """
        piece: Piece = first
        idle = settings.LLM_IDLE_SECONDS
        async with self._failing(), _deadline(self.until, idle, "the next token") as extend:
            while not isinstance(piece, CompletionEnd):
                if isinstance(piece, str):
                    on_text(piece)
                elif isinstance(piece, Withdrawn):
                    self.thinks_first = True
                    await on_withdrawn()
                extend(idle)
                piece = await self._next()
        await self.end(piece)
        return piece

    async def _next(self) -> Piece:
        assert self._pieces is not None, "begun"  # noqa: S101  # for the type checker
        piece = await anext(self._pieces)
        if isinstance(piece, str):
            self._characters += len(piece)
        elif isinstance(piece, Working):
            self._characters += piece.characters
        return piece

    @asynccontextmanager
    async def _failing(self) -> AsyncGenerator[None, None]:
        try:
            yield
        except UpstreamFault as fault:
            await self.end(fault)
            number, most, candidate = self._name
            logger.warning(
                "[STREAMING] attempt %s of %s failed: %s (%s), %s generation=%s",
                *(number, most, fault.code, fault.label or "-", candidate, self.generation.pk),
            )
            raise

    async def end(self, result: Result) -> None:
        """Record what became of it, unless that is known, and close the connection."""
        if self.result is None and self._pieces is not None:
            self.result = result
            self._seconds = time.monotonic() - self._started
            self._epoch = self.generation.epoch
        if self._pieces is not None:
            await self._pieces.aclose()

    def row(self) -> Attempt:
        """Return what is to be stored of it, when it has ended.

        The tokens are estimated unless the provider told them, which it does at a text's end.
        """
        row = Attempt(
            generation=self.generation,
            epoch=self._epoch,
            number=self.number,
            candidate=str(self.choice.candidate),
            provider=self.choice.candidate.provider,
            model=self.choice.candidate.model,
            is_hedge=self.is_hedge,
            started_at=self._started_at,
            first_token_seconds=self._first_token_seconds,
            seconds=self._seconds,
            prompt_tokens=budget.estimated_prompt_tokens(self.request.messages),
            completion_tokens=budget.estimated_tokens(self._characters),
            tokens_estimated=True,
        )
        match self.result:
            case CompletionEnd() as end:
                _fill_in_completion(row, end)
            case UpstreamFault() as fault:
                _fill_in_failure(row, fault)
            case Attempt.Outcome() as outcome:
                row.outcome = outcome
        return row if _was_free(self.result) else _priced(row)


def _fill_in_completion(row: Attempt, end: CompletionEnd) -> None:
    row.outcome = Attempt.Outcome.COMPLETED
    row.http_status, row.request_id = 200, end.request_id
    if end.prompt_tokens is not None and end.completion_tokens is not None:
        row.prompt_tokens, row.completion_tokens = end.prompt_tokens, end.completion_tokens
        row.cached_tokens, row.tokens_estimated = end.cached_tokens, False


def _fill_in_failure(row: Attempt, fault: UpstreamFault) -> None:
    row.outcome = Attempt.Outcome.FAILED
    row.fault, row.detail = fault.code, str(fault)
    row.http_status, row.request_id = fault.status, fault.request_id
    if fault.was_refused:
        row.prompt_tokens = row.completion_tokens = None
        row.tokens_estimated = False


def _was_free(result: Result | None) -> bool:
    return isinstance(result, UpstreamFault) and result.was_refused


def _priced(row: Attempt) -> Attempt:
    row.cost = prices.cost(
        row.model,
        prompt=row.prompt_tokens or 0,
        cached=row.cached_tokens or 0,
        completion=row.completion_tokens or 0,
    )
    return row


@asynccontextmanager
async def _deadline(until: float, seconds: float, waited_for: str) -> AsyncGenerator[Callable[[float], None], None]:
    """Raise UpstreamFault when `seconds` have passed: the provider's, or nobody's when the time of the whole is over.

    As asyncio.timeout; yields what is to be called when something was heard, with the seconds that begin then.
    """
    loop = asyncio.get_running_loop()
    due = min(until, loop.time() + seconds)
    timer: asyncio.TimerHandle

    def extend(seconds: float) -> None:
        nonlocal due, timer
        sooner, due = due, min(until, loop.time() + seconds)
        if due < sooner:
            timer.cancel()
            timer = loop.call_at(due, check)

    def check() -> None:
        # Moving a time-out costs more than most that a piece of text needs, so it is only set when it has run out.
        nonlocal timer
        if loop.time() < due:
            timer = loop.call_at(due, check)
        else:
            timeout.reschedule(due)

    timer = loop.call_at(due, check)
    try:
        async with asyncio.timeout(None) as timeout:
            yield extend
    except TimeoutError as late:
        if loop.time() >= until:
            what = f"{settings.LLM_TIMEOUT_SECONDS:g} s are over"
            raise UpstreamFault("took_too_long", what, label=what) from late
        what = f"waited for {waited_for}"
        raise UpstreamFault("provider_timeout", f"no end in time; {what}", label=what) from late
    finally:
        timer.cancel()
