import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import redis
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.checks import ERROR, WARNING, run_checks
from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, Error, connection
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError

from accounts.models import User
from accounts.tokens import create_token
from generation import producer, viewer
from generation.cursor import START
from generation.models import Generation
from generation.upstream import candidates, chat, probe
from generation.upstream.authored import SECONDS_PER_PIECE, pieces_of
from generation.upstream.candidates import Candidate
from generation.upstream.faults import without_keys

# Long enough to take a second or two when it is written word by word, so that a proxy that collects it shows.
TEXT = "This text proves that words arrive one after the other. " * 12
WRITING_SECONDS = len(list(pieces_of(TEXT))) * SECONDS_PER_PIECE
SECONDS = 30.0


class Failed(Exception):
    """A check that failed; the message says what to do."""


class Command(BaseCommand):
    requires_system_checks = []  # they are one of the lines below
    help = "Check settings, database, Redis, keys, models and a real stream; exit 1 if anything fails."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", help="The public address: also check that a proxy in front passes streams on.")

    def handle(self, *args: Any, url: str | None, **options: Any) -> None:
        checks: list[tuple[str, Callable[[], Iterator[str]]]] = [
            ("settings", _settings),
            ("database", _database),
            ("redis", _redis),
            ("models", _models),
            ("stream", _stream),
        ]
        if url:
            checks.append(("proxy", lambda: _proxy(url.rstrip("/"))))
        failures = sum(self._run(name, check) for name, check in checks)
        if failures:
            raise CommandError(f"{failures} of {len(checks)} checks failed.")

    def _run(self, name: str, check: Callable[[], Iterator[str]]) -> bool:
        """Print a line for each finding; say whether the check failed."""
        try:
            for finding in check():
                self._line("ok", name, finding)
        except Failed as failed:
            self._line("FAIL", name, str(failed))
            return True
        except (Error, OSError, httpx2.HTTPError) as error:
            self._line("FAIL", name, f"{type(error).__name__}: {error}. The other lines may say why.")
            return True
        return False

    def _line(self, verdict: str, name: str, text: str) -> None:
        style = self.style.SUCCESS if verdict == "ok" else self.style.ERROR
        self.stdout.write(f"{style(verdict):4} {name}: {without_keys(text)}")


def _settings() -> Iterator[str]:
    found = run_checks()
    errors = [message for message in found if message.level >= ERROR]
    if errors:
        raise Failed("; ".join(f"{message.id}: {message.msg} {message.hint or ''}".strip() for message in errors))
    warnings = [message for message in found if message.level >= WARNING]
    yield "; ".join(f"{message.id}: {message.msg}" for message in warnings) or "no contradictions"


def _database() -> Iterator[str]:
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as error:
        raise Failed(f"{DEFAULT_DB_ALIAS} does not answer: {error}. Look at DATABASE_URL.") from error
    if missing:
        raise Failed(f"{len(missing)} migrations are missing. Run manage.py migrate, or start the site once.")
    yield f"{connection.vendor}, all migrations applied"


def _redis() -> Iterator[str]:
    if not settings.REDIS_URL:
        yield "not used: one process serves this site"
        return
    token = uuid.uuid4().hex
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=5, socket_timeout=5) as asked:
            asked.set(f"verify:{token}", token, ex=10)
            kept = asked.get(f"verify:{token}")
    except (RedisError, OSError) as error:
        raise Failed(f"does not answer: {type(error).__name__}. Look at REDIS_URL, and whether Redis runs.") from error
    if kept != token.encode():
        raise Failed("forgets what it is given. Look at its maxmemory and its maxmemory-policy.")
    yield "answers"


def _models() -> Iterator[str]:
    chosen = candidates.all_of_use()
    if not chosen:
        yield "no key is configured, so the authors' texts are shown. OPENAI_API_KEY connects a model."
        return
    findings = async_to_sync(_probed)(chosen)
    for finding in findings:
        if finding.fault is None:
            yield finding.sentence()
    broken = [finding.sentence() for finding in findings if finding.fault is not None]
    if broken:
        raise Failed(" | ".join(broken))


async def _probed(chosen: list[Candidate]) -> list[probe.Finding]:
    try:
        return await probe.probe_all(chosen)
    finally:
        await chat.close()


def _stream() -> Iterator[str]:
    """Have a text written through producer, event log and database, as a learner's is."""
    with _somebody() as user:
        generation = _text_for(user)
        started = time.monotonic()
        ended = async_to_sync(_written)(generation.pk)
        if ended is None or ended.status != Generation.Status.COMPLETED:
            raise Failed(f"ended as {ended and ended.status} ({ended and ended.fault}). The log says more.")
        yield f"{len(ended.text)} characters written and stored in {time.monotonic() - started:.1f} s"


async def _written(pk: uuid.UUID) -> Generation | None:
    producer.event_log.start(on_cancel=producer.stop, on_fenced=producer.abandon)
    try:
        async with asyncio.timeout(SECONDS):
            async for event in viewer.view(pk, after=START):
                if isinstance(event, viewer.End):
                    await producer.wait_for_all()
                    return event.generation
    except TimeoutError as late:
        raise Failed(f"no end after {SECONDS:g} s. Look at the database, and at the log above.") from late
    finally:
        await producer.event_log.stop()
    return None


def _proxy(url: str) -> Iterator[str]:
    """Read a stream through the public address and look whether it arrives as it is written."""
    with _somebody() as user, httpx2.Client(timeout=SECONDS) as client:
        try:
            yield f"{url}/healthz answers {_answer(client, f'{url}/healthz')}"
            first, last, size = _arrival(client, f"{url}/api/generations/{_text_for(user).pk}/stream", user)
        except httpx2.HTTPError as error:
            raise Failed(f"{url} cannot be read: {error}. Look at the address and at the proxy.") from error
    if last - first < WRITING_SECONDS / 2:
        raise Failed(
            f"the text came all at once after {last:.1f} s: something in front of the site collects it. In nginx set "
            "proxy_buffering off, or let X-Accel-Buffering through; see deploy/nginx.conf."
        )
    yield f"{size} bytes, the first after {first:.2f} s and the last after {last:.2f} s"


def _answer(client: httpx2.Client, url: str) -> int:
    response = client.get(url)
    if response.status_code != 200:
        raise Failed(f"{url} answers {response.status_code}. Look at SITE_URL, ALLOWED_HOSTS and the proxy.")
    return response.status_code


def _arrival(client: httpx2.Client, url: str, user: User) -> tuple[float, float, int]:
    """Give after how many seconds the first words and the last byte came, and how many bytes in all."""
    started, first, size = time.monotonic(), None, 0
    with client.stream("GET", url, headers={"Authorization": f"Bearer {create_token(user)}"}) as response:
        if response.status_code != 200:
            raise Failed(
                f"the stream answers {response.status_code}. This command and the site have to use the same "
                "DATABASE_URL and SECRET_KEY."
            )
        for chunk in response.iter_raw():
            size += len(chunk)
            if first is None and b'"type":"token"' in chunk:
                first = time.monotonic() - started
    last = time.monotonic() - started
    return last if first is None else first, last, size


@contextmanager
def _somebody() -> Iterator[User]:
    """Give a person for the length of a check, gone afterwards with everything of theirs."""
    user = User.objects.create_guest()
    try:
        yield user
    finally:
        user.delete()


def _text_for(user: User) -> Generation:
    return Generation.objects.create(user=user, kind="verify", source=Generation.Source.AUTHORED, authored_text=TEXT)
