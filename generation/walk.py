"""The walk over candidates: the only place where a provider is asked a second time for the same text.

One candidate after the other, at most LLM_MAX_RETRIES, until one has written the text to its end. Deadlines count
tokens, so neither comments nor empty frames extend them. A candidate that is slow to begin may get a rival, and the
first of the two to speak goes on alone.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from django.conf import settings
from django.db import DatabaseError

from generation.attempts import OngoingAttempt
from generation.models import Attempt, Generation
from generation.offload import offload_to_the_end
from generation.upstream import Ending, candidates
from generation.upstream.candidates import Candidate, Choice
from generation.upstream.faults import UpstreamFault

logger = logging.getLogger("generation.walk")

# Of all texts, how many may get a rival: an outage makes every text slow, and must not double what is asked.
HEDGED_SHARE = 0.05
MOST_HEDGES_AT_ONCE = 5.0


class Allowance:
    """How many rivals may be started: each text adds its share, up to a few at once."""

    def __init__(self) -> None:
        self.hedges = 1.0

    def earn(self) -> None:
        self.hedges = min(self.hedges + HEDGED_SHARE, MOST_HEDGES_AT_ONCE)

    def spend(self) -> bool:
        if self.hedges < 1:
            return False
        self.hedges -= 1
        return True


allowance = Allowance()


class NoCandidateLeft(Exception):
    """Everybody who may be asked was asked or is left alone. `fault` is the last one's."""

    def __init__(self, fault: UpstreamFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Walk:
    """One text's way through the candidates.

    `take` gets each piece of text; `withdraw` is awaited before another candidate begins a text of which something
    was taken already.
    """

    def __init__(
        self, generation: Generation, *, take: Callable[[str], None], withdraw: Callable[[], Awaitable[None]]
    ) -> None:
        self.generation = generation
        self.take = take
        self.withdraw = withdraw
        self.candidates = candidates.configured(only_model=generation.only_model)
        self.most = min(settings.LLM_MAX_RETRIES, len(self.candidates))
        self.tried: list[Candidate] = []
        # What was tried and is over, not stored yet.
        self.attempts: list[Attempt] = []
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + settings.LLM_TIMEOUT_SECONDS
        self._under_way: list[OngoingAttempt] = []
        # Whom we were to ask and of whom nothing was learned yet.
        self._unsettled: list[Choice] = []
        self._answered: Choice | None = None
        self._faults_of_rivals: list[tuple[Choice, UpstreamFault]] = []
        self._fault = UpstreamFault("provider_unreachable", "no candidate could be asked")

    @property
    def tokens(self) -> int:
        """What all attempts that are over have cost together."""
        return sum(attempt.tokens for attempt in self.attempts)

    async def run(self) -> Ending:
        """Have the text written and say how it ended.

        Raises: NoCandidateLeft.
        """
        choice = await self._next()
        while choice is not None:
            one = self._begin(choice)
            try:
                return await self._write(one)
            except UpstreamFault as fault:
                choice = await self._next(self._over(self._under_way[-1], fault))
        raise NoCandidateLeft(self._fault)

    async def _next(self, *failed: tuple[Choice, UpstreamFault]) -> Choice | None:
        """Leave alone whom faults speak against, and give whom to ask next; None as well when the database fails."""
        try:
            return await offload_to_the_end(self._learn_and_choose, failed, may_ask=self._may_ask(failed))
        except DatabaseError:
            logger.exception("nobody else can be chosen generation=%s", self.generation.pk)
            return None

    def _may_ask(self, failed: Sequence[tuple[Choice, UpstreamFault]]) -> bool:
        # Where no connection is free for one candidate, none is for the next.
        is_ours = any(fault.code == "no_connection_free" for _, fault in failed)
        return not is_ours and len(self.tried) < self.most and self._loop.time() < self._until

    def _learn_and_choose(self, failed: Sequence[tuple[Choice, UpstreamFault]], *, may_ask: bool) -> Choice | None:
        for one, fault in failed:
            candidates.settle(one, fault)
            self._unsettled.remove(one)
        if not may_ask:
            return None
        choice = candidates.choose(self.candidates, tried=self.tried)
        if choice is not None:
            self._unsettled.append(choice)
        elif not self.tried and (code := candidates.last_fault(self.candidates)):
            self._fault = UpstreamFault(code, "left alone after an earlier fault")
        return choice

    def _begin(self, choice: Choice, *, is_hedge: bool = False) -> OngoingAttempt:
        self.tried.append(choice.candidate)
        one = OngoingAttempt(choice, self.generation, number=len(self.tried), is_hedge=is_hedge)
        self._under_way.append(one)
        logger.info(
            "[STREAMING] attempt %s of %s: %s%s generation=%s",
            one.number,
            self.most,
            choice.candidate,
            " beside a slow one" if is_hedge else "",
            self.generation.pk,
        )
        return one

    def _over(self, one: OngoingAttempt, fault: UpstreamFault) -> tuple[Choice, UpstreamFault]:
        """Note that an attempt failed."""
        self._fault = fault
        logger.warning(
            "[STREAMING] attempt %s of %s failed: %s (%s), %s generation=%s",
            one.number,
            self.most,
            fault.code,
            fault.label or "-",
            one.choice.candidate,
            self.generation.pk,
        )
        self._under_way.remove(one)
        self.attempts.append(one.failed(fault))
        return one.choice, fault

    # Writing

    async def _write(self, one: OngoingAttempt) -> Ending:
        """Take one candidate's text, or its rival's; leaves the failed attempt last in `_under_way` when it raises."""
        if settings.LLM_HEDGE_SECONDS and one.number == 1:
            allowance.earn()
        try:
            piece = await (self._first_of_two(one) if self._may_hedge(one) else self._first(one))
            one = self._under_way[-1]
            ending = await self._rest(one, piece)
        finally:
            for each in self._under_way:
                await each.pieces.aclose()
        self._under_way.remove(one)
        self.attempts.append(one.completed(ending))
        self._answered = one.choice
        return ending

    async def _first(self, one: OngoingAttempt) -> str | Ending:
        async with _patience(self._until, settings.LLM_FIRST_TOKEN_SECONDS, "the first token"):
            piece = await anext(one.pieces)
        one.spoke(piece)
        return piece

    async def _rest(self, one: OngoingAttempt, piece: str | Ending) -> Ending:
        if one.number > 1:
            await self.withdraw()
        async with _patience(self._until, settings.LLM_IDLE_SECONDS, "the next token") as heard:
            while not isinstance(piece, Ending):
                self.take(piece)
                heard()
                piece = await anext(one.pieces)
                one.wrote(piece)
        return piece

    # Hedging

    def _may_hedge(self, one: OngoingAttempt) -> bool:
        may = settings.LLM_HEDGE_SECONDS and one.number == 1 and self.most > 1
        return bool(may) and not one.choice.is_outage

    async def _first_of_two(self, one: OngoingAttempt) -> str | Ending:
        """Give the first piece of whoever speaks first; the one that writes on is then alone in `_under_way`."""
        racing = {asyncio.create_task(self._first(one)): one}
        try:
            done, _ = await asyncio.wait(racing, timeout=settings.LLM_HEDGE_SECONDS)
            if not done and allowance.spend() and (choice := await self._next()):
                rival = self._begin(choice, is_hedge=True)
                racing[asyncio.create_task(self._first(rival))] = rival
            return await self._race(racing)
        finally:
            for task in racing:
                task.cancel()
            await asyncio.gather(*racing, return_exceptions=True)

    async def _race(self, racing: dict[asyncio.Task[str | Ending], OngoingAttempt]) -> str | Ending:
        while True:
            await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            spoke = None
            for task in [task for task in racing if task.done()]:
                fault = task.exception()
                if fault is None:
                    spoke = spoke or task
                    continue
                if not isinstance(fault, UpstreamFault) or len(racing) == 1:
                    raise fault
                one = racing.pop(task)
                await one.pieces.aclose()
                self._faults_of_rivals.append(self._over(one, fault))
            if spoke is not None:
                await self._overtake(racing[spoke], racing)
                return spoke.result()

    async def _overtake(self, winner: OngoingAttempt, racing: dict[asyncio.Task[str | Ending], OngoingAttempt]) -> None:
        """Close whoever did not speak first, at once."""
        for task, one in racing.items():
            if one is winner:
                continue
            task.cancel()
            await asyncio.wait([task])
            await one.pieces.aclose()
            self._under_way.remove(one)
            self.attempts.append(one.ended(Attempt.Outcome.OVERTAKEN))

    # Ending

    def stop(self) -> None:
        """Count those that were under way when somebody interrupted the walk."""
        self.attempts += [one.ended(Attempt.Outcome.STOPPED) for one in self._under_way]
        self._under_way.clear()

    def settle(self) -> None:
        """Learn from who answered, and nothing from those of whom nothing is known; uses the database."""
        faults = dict(self._faults_of_rivals)
        for choice in self._unsettled:
            if choice is self._answered or choice in faults:
                candidates.settle(choice, faults.get(choice))
            else:
                candidates.let_go(choice)
        self._unsettled.clear()


@asynccontextmanager
async def _patience(until: float, seconds: float, waited_for: str) -> AsyncGenerator[Callable[[], None], None]:
    """As asyncio.timeout, but a time-out is a fault: the provider's, or nobody's when the time of the whole is over.

    Gives what is to be called when something was heard: the seconds begin anew.
    """
    loop = asyncio.get_running_loop()
    due = min(until, loop.time() + seconds)
    timer: asyncio.TimerHandle

    def heard() -> None:
        nonlocal due
        due = min(until, loop.time() + seconds)

    def check() -> None:
        # Moving a time-out costs more than most that a piece of text needs, so it is only set when it has run out.
        nonlocal timer
        if loop.time() < due:
            timer = loop.call_at(due, check)
        else:
            deadline.reschedule(due)

    timer = loop.call_at(due, check)
    try:
        async with asyncio.timeout(None) as deadline:
            yield heard
    except TimeoutError as late:
        if loop.time() >= until:
            what = f"{settings.LLM_TIMEOUT_SECONDS:g} s are over"
            raise UpstreamFault("took_too_long", what, label=what) from late
        what = f"waited for {waited_for}"
        raise UpstreamFault("provider_timeout", f"no end in time; {what}", label=what) from late
    finally:
        timer.cancel()
