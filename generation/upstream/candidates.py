"""Candidates: each key with each model, in the order in which they are tried, each with a circuit breaker.

First choice with every key, then the next model with every key, then the second provider. Who failed cools
down for as long as its fault says (faults.py). When that time is over one request probes it; the others go on without
it until that is known.
"""

import functools
import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from generation.model_request import ModelRequest
from generation.models import CandidateHealth
from generation.models.candidate import Identity
from generation.upstream import context
from generation.upstream.faults import LONGEST_COOLDOWN_SECONDS, LONGEST_GROWN_COOLDOWN_SECONDS, Blames, UpstreamFault

logger = logging.getLogger("generation.upstream.candidates")

OPENAI = "openai"
OPENROUTER = "openrouter"


@dataclass(frozen=True, slots=True)
class Candidate:
    provider: str
    base_url: str
    key: str = field(repr=False)
    key_number: int
    model: str

    @property
    def identity(self) -> Identity:
        return Identity(self.provider, key_id(self.key), self.model)

    @property
    def is_local(self) -> bool:
        """Whether it is a machine of one's own, by its address."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_private
        except ValueError:
            return "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa"))

    def __str__(self) -> str:
        return f"{self.provider} key {self.key_number} {self.model}"


@functools.cache
def key_id(key: str) -> str:
    """Return a fingerprint that tells keys apart and gives nothing away."""
    return hmac.digest(settings.SECRET_KEY.encode(), key.encode(), hashlib.sha256).hex()[:12]


def configured(*, only_model: str = "") -> list[Candidate]:
    """Return all candidates in order; with `only_model` those of that model, whether or not learners get it."""
    if only_model and only_model == settings.OPENROUTER_MODEL:
        return list(_openrouter())
    if only_model:
        return list(_openai([only_model]))
    return [*_openai([settings.OPENAI_MODEL, *settings.OPENAI_FALLBACK_MODELS]), *_openrouter()]


def for_request(request: ModelRequest) -> list[Candidate]:
    """Return the candidates that may write a text, in order."""
    return [one for one in configured(only_model=request.only_model) if one.model not in request.not_models]


def all_of_use() -> list[Candidate]:
    """Return the candidates for learners, and those that only variants ask."""
    variants = [one for model in settings.VARIANT_MODELS for one in configured(only_model=model)]
    return list(dict.fromkeys([*configured(), *variants]))


def find(identity: Identity) -> Candidate | None:
    """Return the configured candidate that a row is about; None when its key or model is gone."""
    return next((one for one in all_of_use() if one.identity == identity), None)


def register() -> None:
    """Make a row for each candidate, so that staff see all of them."""
    CandidateHealth.objects.bulk_create(
        [CandidateHealth(**one.identity._asdict()) for one in all_of_use()], ignore_conflicts=True
    )


def any_configured() -> bool:
    return bool(settings.OPENAI_API_KEYS or settings.OPENROUTER_API_KEY)


def _openai(models: list[str]) -> Iterator[Candidate]:
    for model in dict.fromkeys(models):
        for number, key in enumerate(settings.OPENAI_API_KEYS, start=1):
            yield Candidate(OPENAI, settings.OPENAI_BASE_URL, key, number, model)


def _openrouter() -> Iterator[Candidate]:
    if settings.OPENROUTER_API_KEY:
        yield Candidate(
            OPENROUTER, settings.OPENROUTER_BASE_URL, settings.OPENROUTER_API_KEY, 1, settings.OPENROUTER_MODEL
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate to ask now.

    Args:
        probed_until: it failed before, and until then this request may find out whether it still does, and no other.
        is_outage: half of all candidates or more are cooling down or being probed.
        refused: what it is not asked for (wishes.py).
        tries_anew: it is asked again for what it did not take a day ago.
        thinks_first: it begins with its thoughts without saying so.
    """

    candidate: Candidate
    probed_until: datetime | None = None
    is_outage: bool = False
    refused: frozenset[str] = frozenset()
    tries_anew: bool = False
    thinks_first: bool = False


def choose(candidates: list[Candidate], *, tried: Collection[Candidate] = ()) -> Choice | None:
    """Return the first candidate that was not tried and is not cooling down; None when there is none."""
    known = CandidateHealth.objects.of_note().by_identity()
    troubled = sum(known[one.identity].failures > 0 for one in candidates if one.identity in known)
    is_outage = troubled * 2 >= len(candidates)
    for candidate in candidates:
        if candidate in tried:
            continue
        health = known.get(candidate.identity)
        if health is None:
            return Choice(candidate, is_outage=is_outage)
        until = None
        if health.failures:
            if health.is_cooling_down:
                continue
            until = health.start_probe(seconds=settings.LLM_TIMEOUT_SECONDS)
            if until is None:
                continue
        return Choice(
            candidate,
            probed_until=until,
            is_outage=is_outage,
            refused=health.refused_lately | health.not_kept_to,
            tries_anew=bool(health.refused) and not health.refused_lately,
            thinks_first=health.thinks_first,
        )
    return None


def without(choice: Choice, wish: str) -> Choice | None:
    """Return the same candidate to be asked without a wish; None where it was asked without it."""
    if wish in choice.refused:
        return None
    return replace(choice, probed_until=None, refused=choice.refused | {wish})


def last_fault(candidates: list[Candidate]) -> str:
    """Return why the first of these candidates is cooling down; an empty string when nothing is known of it."""
    known = CandidateHealth.objects.exclude(failures=0).by_identity()
    return next((known[one.identity].fault for one in candidates if one.identity in known), "")


def blame(candidate: Candidate, fault: UpstreamFault) -> None:
    """Let those cool down whom a fault speaks against."""
    blamed = _blamed(candidate, fault.fault.blames)
    if not blamed:
        return
    identities = [one.identity for one in blamed]
    with transaction.atomic():
        CandidateHealth.objects.bulk_create(
            [CandidateHealth(**identity._asdict()) for identity in identities], ignore_conflicts=True
        )
        rows = CandidateHealth.objects.of(identities).order_by("pk").select_for_update()
        cooldowns = [_record_failure(row, fault) for row in rows]
    logger.warning(
        "[STREAMING] %s: %s cools down for %.0f s because of %s",
        candidate,
        fault.fault.blames.value,
        max(cooldowns),
        fault.code,
    )


def _record_failure(row: CandidateHealth, fault: UpstreamFault) -> float:
    said = fault.retry_after
    return row.record_failure(
        fault.code,
        fault.label or fault.code,
        cooldown_seconds=fault.fault.cooldown_seconds
        if said is None
        else min(max(said, 1.0), LONGEST_COOLDOWN_SECONDS),
        growing=fault.fault.growing and said is None,
        longest_seconds=LONGEST_GROWN_COOLDOWN_SECONDS,
    )


def _blamed(candidate: Candidate, blames: Blames) -> list[Candidate]:
    match blames:
        case Blames.NOBODY:
            return []
        case Blames.CANDIDATE:
            return [candidate]
        case Blames.KEY:
            same = [one for one in configured() if (one.provider, one.key) == (candidate.provider, candidate.key)]
            return list(dict.fromkeys([*same, candidate]))
        case Blames.PROVIDER:
            same = [one for one in configured() if one.provider == candidate.provider]
            return list(dict.fromkeys([*same, candidate]))


def record_outcome(choice: Choice, fault: UpstreamFault | None, *, thinks_first: bool = False) -> None:
    """Record how a candidate did: after a failure it cools down, and when a probe is answered it has recovered.

    What it would not take, and that it begins with its thoughts, is remembered for all who ask it next.
    """
    if fault is not None and fault.refused_wish and fault.refused_wish not in choice.refused:
        _remember(choice, refused=choice.refused | {fault.refused_wish})
        logger.warning("[STREAMING] %s does not take %s and is asked without it", choice.candidate, fault.refused_wish)
        release_probe(choice)
        return
    if thinks_first and not choice.thinks_first:
        _remember(choice, thinks_first=True)
    if fault is None and choice.tries_anew:
        CandidateHealth.objects.of([choice.candidate.identity]).update(refused=[], refused_at=None)
    if fault is not None and fault.fault.blames is not Blames.NOBODY:
        blame(choice.candidate, fault)
    elif fault is not None and not fault.was_answered:
        release_probe(choice)
    elif choice.probed_until is not None:
        # It answered, be it that it would not write this very text.
        CandidateHealth.objects.recover(choice.candidate.identity)
        logger.info("[STREAMING] %s has recovered", choice.candidate)


def notice_context(candidate: Candidate, request: ModelRequest, prompt_tokens: int | None) -> None:
    """Record and log that a candidate's server cut a prompt off, where it counted fewer tokens than that can have."""
    if prompt_tokens is None or not context.was_prompt_cut(request.messages, prompt_tokens):
        return
    if CandidateHealth.objects.record_context(candidate.identity, prompt_tokens):
        said = context.sentence(prompt_tokens)
        logger.warning("[STREAMING] %s has cut off the beginning of a prompt: %s", candidate, said)


def _remember(choice: Choice, *, refused: Collection[str] = (), thinks_first: bool = False) -> None:
    values: dict[str, object] = {"refused": sorted(refused), "refused_at": timezone.now()} if refused else {}
    if thinks_first:
        values["thinks_first"] = True
    CandidateHealth.objects.update_or_create(**choice.candidate.identity._asdict(), defaults=values)


def release_probe(choice: Choice) -> None:
    """Give up the right to probe a candidate: nothing was learned."""
    if choice.probed_until is not None:
        own = CandidateHealth.objects.of([choice.candidate.identity]).filter(probed_until=choice.probed_until)
        own.update(probed_until=None)
