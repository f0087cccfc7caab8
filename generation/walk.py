"""The walk over candidates: the only place where a provider is asked a second time for the same text.

One candidate after the other, at most LLM_MAX_RETRIES, until one has written the text to its end. Deadlines count
tokens, so neither comments nor empty frames extend them. A candidate that is slow to begin may get a rival, and the
first of the two to speak goes on alone.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from django.conf import settings

from generation.attempts import OngoingAttempt
from generation.models import Attempt, Generation
from generation.offload import offload
from generation.upstream import Ending, candidates
from generation.upstream.candidates import Candidate, Choice
from generation.upstream.faults import UpstreamFault

logger = logging.getLogger("generation.walk")

# A deadline is moved when it is this share of its time too early: each move costs more than most that a piece needs.
SLACK = 0.01
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
        self.tokens = 0
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + settings.LLM_TIMEOUT_SECONDS
        self._under_way: list[OngoingAttempt] = []
        self._answered: Choice | None = None
        self._fault = UpstreamFault("provider_unreachable", "no candidate could be asked")

    async def run(self) -> tuple[Ending, Attempt]:
        """Have the text written; how it ended, and the attempt that wrote it, not stored yet.

        Raises: NoCandidateLeft.
        """
        choice = await offload(self._choose)
        while choice is not None:
            one = self._begin(choice)
            try:
                return await self._write(one)
            except UpstreamFault as fault:
                choice = await offload(self._learn, self._under_way.pop(), fault, is_last=self._is_late())
        raise NoCandidateLeft(self._fault)

    def _choose(self) -> Choice | None:
        """Give whom to ask next; uses the database."""
        if len(self.tried) >= self.most:
            return None
        choice = candidates.choose(self.candidates, tried=self.tried)
        if choice is None and not self.tried and (code := candidates.last_fault(self.candidates)):
            self._fault = UpstreamFault(code, "left alone after an earlier fault")
        return choice

    def _is_late(self) -> bool:
        return self._loop.time() >= self._until

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

    def _learn(self, one: OngoingAttempt, fault: UpstreamFault, *, is_last: bool) -> Choice | None:
        """Store how a try failed, leave alone whom to blame, and give whom to ask next; uses the database."""
        self._record_fault(one, fault)
        return None if is_last else self._choose()

    def _record_fault(self, one: OngoingAttempt, fault: UpstreamFault) -> None:
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
        self._count(one.failed(fault)).save()
        candidates.settle(one.choice, fault)

    def _count(self, attempt: Attempt) -> Attempt:
        self.tokens += attempt.tokens
        return attempt

    # Writing

    async def _write(self, one: OngoingAttempt) -> tuple[Ending, Attempt]:
        """Take one candidate's text, or its rival's; leaves the failed try last in `_under_way` when it raises."""
        try:
            piece = await (self._first_of_two(one) if self._may_hedge(one) else self._first(one))
            one = self._under_way[-1]
            ending = await self._rest(one, piece)
        finally:
            for each in self._under_way:
                await each.pieces.aclose()
        self._under_way.remove(one)
        self._answered = one.choice
        return ending, self._count(one.completed(ending))

    async def _first(self, one: OngoingAttempt) -> str | Ending:
        async with _patience(self._until, settings.LLM_FIRST_TOKEN_SECONDS, "the first token"):
            piece = await anext(one.pieces)
        one.spoke()
        return piece

    async def _rest(self, one: OngoingAttempt, piece: str | Ending) -> Ending:
        if one.number > 1:
            await self.withdraw()
        async with _patience(self._until, settings.LLM_IDLE_SECONDS, "the next token") as deadline:
            while not isinstance(piece, Ending):
                one.characters += len(piece)
                self.take(piece)
                due = min(self._until, self._loop.time() + settings.LLM_IDLE_SECONDS)
                if due - (deadline.when() or 0) > settings.LLM_IDLE_SECONDS * SLACK:
                    deadline.reschedule(due)
                piece = await anext(one.pieces)
        return piece

    # Hedging

    def _may_hedge(self, one: OngoingAttempt) -> bool:
        if not settings.LLM_HEDGE_SECONDS or one.number > 1:
            return False
        allowance.earn()
        return self.most > 1 and not one.choice.is_outage

    async def _first_of_two(self, one: OngoingAttempt) -> str | Ending:
        """Give the first piece of whoever speaks first; the one that writes on is then alone in `_under_way`."""
        racing = {asyncio.create_task(self._first(one)): one}
        try:
            done, _ = await asyncio.wait(racing, timeout=settings.LLM_HEDGE_SECONDS)
            if not done and allowance.spend() and (choice := await offload(self._choose)):
                rival = self._begin(choice, is_hedge=True)
                racing[asyncio.create_task(self._first(rival))] = rival
            return await self._race(racing)
        finally:
            for task in racing:
                task.cancel()
            await asyncio.gather(*racing, return_exceptions=True)

    async def _race(self, racing: dict[asyncio.Task[str | Ending], OngoingAttempt]) -> str | Ending:
        while True:
            done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            task = done.pop()
            one = racing[task]
            fault = task.exception()
            if fault is None:
                await self._overtake(one, racing)
                return task.result()
            if not isinstance(fault, UpstreamFault) or len(self._under_way) == 1:
                raise fault
            self._under_way.remove(one)
            del racing[task]
            await one.pieces.aclose()
            await offload(self._record_fault, one, fault)

    async def _overtake(self, winner: OngoingAttempt, racing: dict[asyncio.Task[str | Ending], OngoingAttempt]) -> None:
        """Close whoever did not speak first, at once."""
        for task, one in racing.items():
            if one is winner:
                continue
            task.cancel()
            await asyncio.wait([task])
            await one.pieces.aclose()
            self._under_way.remove(one)
            attempt = self._count(one.ended(Attempt.Outcome.OVERTAKEN))
            await offload(_store, attempt, one.choice)

    # Ending early

    def stopped(self) -> list[Attempt]:
        """Give the attempts that were under way when somebody interrupted the walk, not stored yet."""
        return [self._count(one.ended(Attempt.Outcome.STOPPED)) for one in self._under_way]

    def settle(self) -> None:
        """Learn from who answered, and nothing from those that were under way; uses the database."""
        if self._answered is not None:
            candidates.settle(self._answered, None)
        for one in self._under_way:
            candidates.let_go(one.choice)


def _store(attempt: Attempt, choice: Choice) -> None:
    attempt.save()
    candidates.let_go(choice)


@asynccontextmanager
async def _patience(until: float, seconds: float, waited_for: str) -> AsyncGenerator[asyncio.Timeout, None]:
    """As asyncio.timeout, but a time-out is the provider's fault."""
    try:
        async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + seconds)) as deadline:
            yield deadline
    except TimeoutError as late:
        what = f"waited for {waited_for}"
        raise UpstreamFault("provider_timeout", f"no end in time; {what}", label=what) from late
