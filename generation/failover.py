"""Failover: the only place where a provider is asked a second time for the same text.

One candidate after the other, at most LLM_MAX_RETRIES, until one has written the text to its end. Deadlines count
tokens, so neither comments nor empty frames extend them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from django.conf import settings
from django.db import DatabaseError, transaction

from generation import continuation
from generation.attempts import OngoingAttempt
from generation.hedging import Allowance, Hedge, Spoke
from generation.model_request import ModelRequest
from generation.models import Attempt, Generation
from generation.offload import offload_to_the_end
from generation.upstream import CompletionEnd, candidates
from generation.upstream.candidates import Candidate, Choice
from generation.upstream.chat import Clients
from generation.upstream.faults import UpstreamFault, gravity

logger = logging.getLogger("generation.failover")


class NoCandidateLeft(Exception):
    """Everybody who may be asked was asked or is cooling down. `fault` is the gravest of theirs."""

    def __init__(self, fault: UpstreamFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Failover:
    """One text asked of candidate after candidate.

    `attempts` are all that were begun, in order; each knows what became of it.

    Args:
        allowance: how many of this process's texts may have two candidates racing.
        on_text: is handed each piece of text.
        on_reset: is awaited before a second candidate's text begins: what was shown is withdrawn.
    """

    def __init__(
        self,
        generation: Generation,
        *,
        clients: Clients,
        allowance: Allowance,
        on_text: Callable[[str], None],
        on_reset: Callable[[], Awaitable[None]],
    ) -> None:
        self.generation = generation
        self.clients = clients
        self.allowance = allowance
        self.on_text = on_text
        self.on_reset = on_reset
        self.request = generation.request
        self.candidates = candidates.for_request(self.request)
        self.most = min(settings.LLM_MAX_RETRIES, len(self.candidates))
        self.attempts: list[OngoingAttempt] = []
        self._until = asyncio.get_running_loop().time() + settings.LLM_TIMEOUT_SECONDS
        self._fault_before = ""

    async def run(self) -> CompletionEnd:
        """Return how the text ended that one of them wrote. Raises NoCandidateLeft."""
        try:
            while attempt := await self._begin_next():
                with suppress(UpstreamFault):  # the attempt keeps it, and the next one learns of it
                    return await self._complete(attempt)
        finally:
            await self._stop()
        raise NoCandidateLeft(self._gravest_fault())

    async def ask_again(self, end: CompletionEnd, request: ModelRequest) -> tuple[str, CompletionEnd] | None:
        """Ask whoever wrote a text once more, for something about it, and return its answer and how that ended.

        None when it did not come to an end; nothing of it is handed to `on_text`.
        """
        last = next(one for one in self.attempts if one.result is end)
        self.most += 1
        attempt = OngoingAttempt(
            replace(last.choice, probed_until=None),
            self.generation,
            request,
            number=len(self.attempts) + 1,
            most=self.most,
            until=self._until,
        )
        self.attempts.append(attempt)
        attempt.begin(self.clients)
        pieces: list[str] = []

        async def withdraw() -> None:
            pieces.clear()

        try:
            first = await attempt.first_piece()
            new_end = await attempt.remaining(first, on_text=pieces.append, on_withdrawn=withdraw)
        except UpstreamFault:
            return None  # the attempt keeps it
        finally:
            await self._stop()
        return "".join(pieces), new_end

    async def continue_cut_text(self, text: str, end: CompletionEnd) -> CompletionEnd:
        """Ask whoever wrote a text that was cut at its longest to bring it to its end, once.

        What joins and comes to an end is handed to `on_text`, all at once; anything else is not kept. Returns how the
        text ended.
        """
        answer = await self.ask_again(end, continuation.request_for_rest(self.request, text))
        if answer is None:
            return end
        answered, new_end = answer
        rest = continuation.rest_of(text, answered)
        if new_end.was_cut or not rest:
            logger.info("the rest of a text that was cut does not join generation=%s", self.generation.pk)
            return end
        self.on_text(rest)
        return new_end.behind(end)

    async def _begin_next(self, *, is_hedge: bool = False) -> OngoingAttempt | None:
        """Record how attempts ended and begin one at the next candidate; None if there is none, or no database."""
        may_ask = len(self.attempts) < self.most and asyncio.get_running_loop().time() < self._until
        # Where no connection is free for one candidate, none is for the next.
        may_ask = may_ask and not any(one.fault and one.fault.code == "no_connection_free" for one in self.attempts)
        try:
            attempt = await offload_to_the_end(self._record_and_choose, may_ask=may_ask, is_hedge=is_hedge)
        except DatabaseError:
            logger.exception("nobody else can be chosen generation=%s", self.generation.pk)
            return None
        if attempt is not None:
            attempt.begin(self.clients)
        return attempt

    def _record_and_choose(self, *, may_ask: bool, is_hedge: bool) -> OngoingAttempt | None:
        for one in self.attempts:
            if one.fault is not None:
                _record(one)
        without = self._without_what_was_refused()
        if without is None and not may_ask:
            return None
        choice = without or candidates.choose(self.candidates, tried=self._not_again())
        if choice is None:
            self._fault_before = candidates.last_fault(self.candidates)
            return None
        if without is not None:
            self.most += 1
        number = len(self.attempts) + 1
        attempt = OngoingAttempt(
            *(choice, self.generation, self.request),
            number=number,
            most=self.most,
            until=self._until,
            is_hedge=is_hedge,
        )
        self.attempts.append(attempt)
        return attempt

    def _without_what_was_refused(self) -> Choice | None:
        """Return the candidate that would not take all of the last request, to be asked without that."""
        last = self.attempts[-1] if self.attempts else None
        if last is None or last.fault is None or not last.fault.refused_wish:
            return None
        return candidates.without(last.choice, last.fault.refused_wish)

    def _not_again(self) -> list[Candidate]:
        """Return whom this text is not asked of any more: a slow machine of one's own does not become faster by it."""
        tried = [one.choice.candidate for one in self.attempts]
        slow = {
            (one.choice.candidate.base_url, one.choice.candidate.key)
            for one in self.attempts
            if one.fault and one.fault.code == "provider_timeout" and one.choice.candidate.is_local
        }
        return [one for one in self.candidates if one in tried or (one.base_url, one.key) in slow]

    async def _complete(self, attempt: OngoingAttempt) -> CompletionEnd:
        spoke = await self._first_to_speak(attempt)
        if spoke.attempt.number > 1:
            await self.on_reset()
        return await spoke.attempt.remaining(spoke.piece, on_text=self.on_text, on_withdrawn=self.on_reset)

    async def _first_to_speak(self, attempt: OngoingAttempt) -> Spoke:
        if not settings.LLM_HEDGE_SECONDS or attempt.number > 1:
            return Spoke(attempt, await attempt.first_piece())
        self.allowance.earn()
        if self.most == 1 or attempt.choice.is_outage:
            return Spoke(attempt, await attempt.first_piece())
        hedge = Hedge(
            attempt,
            begin_rival=partial(self._begin_next, is_hedge=True),
            after_seconds=settings.LLM_HEDGE_SECONDS,
            allowance=self.allowance,
        )
        return await hedge.first_to_speak()

    async def _stop(self) -> None:
        """End those that are still under way, because somebody interrupted them."""
        for one in self.attempts:
            await one.end(Attempt.Outcome.STOPPED)

    def _gravest_fault(self) -> UpstreamFault:
        """Return the gravest, which is the one that somebody has to do something about."""
        faults = [one.fault for one in self.attempts if one.fault is not None]
        if faults:
            return max(reversed(faults), key=lambda fault: gravity(fault.code))
        if self._fault_before:
            return UpstreamFault(self._fault_before, "cooling down after an earlier fault")
        return UpstreamFault("provider_unreachable", "no candidate could be asked")

    def record(self) -> list[Attempt]:
        """Record what was learned of each candidate, and return the attempts to store; uses the database."""
        for one in self.attempts:
            _record(one)
        return [one.row() for one in self.attempts if one.was_begun]


def _record(attempt: OngoingAttempt) -> None:
    """Store in the candidate's health how it did, once; a transaction that is rolled back does not count."""
    if attempt.is_recorded:
        return
    match attempt.result:
        case CompletionEnd() as end:
            candidates.record_outcome(attempt.choice, None, thinks_first=attempt.thinks_first)
            candidates.notice_context(attempt.choice.candidate, attempt.request, end.prompt_tokens)
        case UpstreamFault() as fault:
            candidates.record_outcome(attempt.choice, fault)
        case _:  # ended by us, or never begun: nothing was learned
            candidates.release_probe(attempt.choice)

    def remember() -> None:
        attempt.is_recorded = True

    transaction.on_commit(remember)
