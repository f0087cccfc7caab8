"""What a candidate can do, found out by asking it: so that nothing is found out at a learner's expense.

Three short requests: a stream with usage, and JSON by schema and without one; and how much its server says it reads.
What comes of it is kept with the candidate's health; one that answers is trusted again.
"""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from generation.model_request import Message, ModelRequest
from generation.models import CandidateHealth
from generation.upstream import CompletionEnd, candidates, context
from generation.upstream.candidates import Candidate, Choice
from generation.upstream.chat import Clients
from generation.upstream.faults import UpstreamFault

# A model that reasons needs room before it says the first word.
MOST_TOKENS = 1000
QUESTION: list[Message] = [
    Message(role="user", content='Answer with this JSON object and nothing else: {"ready": true}')
]
JSON_OBJECT = {"type": "json_object"}
JSON_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "probe",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"ready": {"type": "boolean"}},
            "required": ["ready"],
            "additionalProperties": False,
        },
    },
}


@dataclass(slots=True)
class Finding:
    """What was found out about a candidate; `fault` when it wrote nothing at all."""

    candidate: Candidate
    fault: UpstreamFault | None = None
    refused: frozenset[str] = frozenset()
    reports_usage: bool = False
    first_token_seconds: float | None = None
    context_tokens: int | None = None
    # Whether it was not waited for as long as a learner's text would be.
    was_given_up: bool = False
    writes: dict[str, bool] = field(default_factory=dict)

    def sentence(self) -> str:
        """Return the finding in one line, with what to do about it."""
        if self.fault is not None:
            is_slow = self.fault.code == "provider_timeout" and self.first_token_seconds is not None
            remedy = _WAIT_LONGER if is_slow else _REMEDIES.get(self.fault.code, _TRY_AGAIN)
            return f"{self.candidate}: {self.fault.code}: {self.fault}. {remedy}"
        streams = _("streams, first token after %(seconds).2f s") % {"seconds": self.first_token_seconds or 0}
        missing = [name for name, able in (("usage", self.reports_usage), *self.writes.items()) if not able]
        lacks = _(", without %(missing)s") % {"missing": ", ".join(missing)} if missing else ""
        asked = _(", asked without %(refused)s") % {"refused": ", ".join(sorted(self.refused))} if self.refused else ""
        reads = f", {context.sentence(self.context_tokens)}" if self.context_tokens is not None else ""
        return f"{self.candidate}: {streams}{lacks}{asked}{reads}"


_WAIT_LONGER = _(
    "It writes, so its address is right. A slow model needs a longer LLM_TIMEOUT_SECONDS; "
    "verify --seconds 60 waits for it."
)
_TRY_AGAIN = _("Try again later; if it stays, take it out of the configuration.")
_REMEDIES = {
    "provider_unauthorized": _("Replace the key."),
    "model_not_available": _("Allow the project this model, or take the model out of OPENAI_MODEL and the others."),
    "wrong_address": _("Correct OPENAI_BASE_URL."),
    "too_expensive": _("Top up the account, or lower LLM_MAX_TOKENS."),
    "quota_exhausted": _("Top up the account or replace the key."),
    "provider_unreachable": _("Look at the base URL, and whether this machine may reach it."),
    "provider_timeout": _("Look at the base URL; a slow model needs a longer LLM_FIRST_TOKEN_SECONDS."),
}


async def probe_all(chosen: list[Candidate], *, seconds: float | None = None, keep: bool = True) -> list[Finding]:
    """Ask several candidates at once, none for longer than so many seconds, and keep what is found."""
    if seconds is None:
        seconds = settings.LLM_FIRST_TOKEN_SECONDS + settings.LLM_IDLE_SECONDS
    until = asyncio.get_running_loop().time() + seconds
    clients = Clients()
    try:
        findings = await asyncio.gather(*(_probe(candidate, clients, until=until) for candidate in chosen))
    finally:
        await clients.close()
    for finding in findings if keep else ():
        await sync_to_async(_keep)(finding)
    return findings


async def _probe(candidate: Candidate, clients: Clients, *, until: float) -> Finding:
    loop = asyncio.get_running_loop()
    finding, started = Finding(candidate), loop.time()
    try:
        async with asyncio.timeout_at(until):
            await _stream(finding, clients)
    except TimeoutError:
        finding.fault = UpstreamFault("provider_timeout", "no short answer in time")
        waited = loop.time() - started
        finding.was_given_up = finding.first_token_seconds is not None or waited < settings.LLM_FIRST_TOKEN_SECONDS
    except UpstreamFault as fault:
        finding.fault = fault
    else:
        formats = (JSON_SCHEMA, JSON_OBJECT)
        answers = await asyncio.gather(*(_writes_json(finding, clients, how, until=until) for how in formats))
        finding.writes = dict(zip(("json_schema", "json_object"), answers, strict=True))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                finding.context_tokens = await clients.context_tokens(candidate)
    return finding


async def _stream(finding: Finding, clients: Clients) -> None:
    """Ask for a short text; what the candidate does not take is left out from then on."""
    while True:
        try:
            await _stream_once(finding, clients)
        except UpstreamFault as fault:
            if not fault.refused_wish or fault.refused_wish in finding.refused:
                raise
            finding.refused |= {fault.refused_wish}
        else:
            return


async def _stream_once(finding: Finding, clients: Clients) -> None:
    started = time.monotonic()
    request = ModelRequest(QUESTION, max_tokens=MOST_TOKENS)
    async for piece in clients.stream(finding.candidate, request, refused=finding.refused):
        if isinstance(piece, CompletionEnd):
            finding.reports_usage = piece.prompt_tokens is not None and piece.completion_tokens is not None
        elif finding.first_token_seconds is None and isinstance(piece, str):
            finding.first_token_seconds = time.monotonic() - started


async def _writes_json(finding: Finding, clients: Clients, response_format: dict[str, Any], *, until: float) -> bool:
    """Return whether a candidate keeps to a format of answers; refusing to is a no."""
    text = ""
    try:
        async with asyncio.timeout_at(until):
            request = ModelRequest(QUESTION, max_tokens=MOST_TOKENS, response_format=response_format)
            async for piece in clients.stream(finding.candidate, request, refused=finding.refused):
                text += piece if isinstance(piece, str) else ""
        answer: object = json.loads(text)
    except (UpstreamFault, TimeoutError, ValueError):
        return False
    match answer:
        case {"ready": bool(), **others}:  # whether it says yes is not the question
            return not others
        case _:
            return False


def _keep(finding: Finding) -> None:
    if finding.was_given_up:
        return  # it may be slower than whoever asked is patient, and good enough for learners
    choice = Choice(finding.candidate, probed_until=timezone.now(), refused=finding.refused)
    candidates.record_outcome(choice, finding.fault)
    values: dict[str, Any] = {
        "verified_at": timezone.now(),
        "streams": finding.fault is None,
        "first_token_seconds": finding.first_token_seconds,
        "reports_usage": finding.reports_usage if finding.fault is None else None,
        "writes_json_schema": finding.writes.get("json_schema"),
        "writes_json_object": finding.writes.get("json_object"),
    }
    if finding.context_tokens is not None:
        values["context_tokens"] = finding.context_tokens
    if finding.fault is None:
        values |= {"refused": sorted(finding.refused), "refused_at": timezone.now() if finding.refused else None}
    CandidateHealth.objects.update_or_create(**finding.candidate.identity._asdict(), defaults=values)
