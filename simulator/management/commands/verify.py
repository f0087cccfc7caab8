import asyncio
import logging
import os
import smtplib
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any
from urllib.parse import urljoin

import httpx2
import redis
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.checks import ERROR, WARNING, run_checks
from django.core.mail import get_connection
from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError

from accounts.models import User
from accounts.tokens import create_token
from generation import check_text, viewer
from generation.models import Generation
from generation.process import Process
from generation.upstream import candidates, probe
from simulator import database
from simulator.environment import Unusable, origin
from web.hiding import without_secrets
from web.logs import visible

SECONDS = 10.0
# What is left of a check's time to end what it began, and to say so.
TO_END_SECONDS = 3.0
MAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"


class Failed(Exception):
    """A check that failed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    findings: Callable[[], Iterator[str]]
    remedy: str
    needs_database: bool = False


class Running(Thread):
    """A check that is being made, in a thread that nobody has to wait for: looking up a name cannot be broken off."""

    def __init__(self, check: Check) -> None:
        super().__init__(daemon=True)
        self.check = check
        self.findings: list[str] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for finding in self.check.findings():
                self.findings.append(finding)
        except Failed as failed:
            self.error = failed
        except DatabaseError as error:
            self.error = Failed(database.sentence(error))
        except (OSError, httpx2.HTTPError, RedisError) as error:
            self.error = Failed(f"{type(error).__name__}: {error}. {self.check.remedy}")
        except Exception as error:  # noqa: BLE001  # a mistake of ours: raised where the command waits
            self.error = error
        finally:
            connections.close_all()


class Command(BaseCommand):
    requires_system_checks = []  # they are one of the lines below
    help = "Check settings, database, Redis, mail, keys, models and a real stream; exit 1 if anything fails."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", help="The public address: also check that a proxy in front passes streams on.")
        parser.add_argument("--seconds", type=float, default=SECONDS, help="How long a check may take; %(default)g.")

    def handle(self, *args: Any, url: str | None, seconds: float, **options: Any) -> None:
        with _quiet_log():
            self._make_checks(url=url, seconds=seconds)

    def _make_checks(self, *, url: str | None, seconds: float) -> None:
        patience = max(seconds - TO_END_SECONDS, 1.0)
        failed: list[str] = []
        checks = [
            Check("settings", _settings, "Look at the settings."),
            Check("database", _database, "Look at DATABASE_URL, and whether the database answers this machine."),
            Check("redis", _redis, "Look at REDIS_URL, and whether Redis answers this machine."),
            Check("mail", lambda: _mail(patience), "Look at EMAIL_URL, and whether the mail server answers."),
            Check(
                "models",
                lambda: _models(patience, keep="database" not in failed),
                "Look at the base URLs, and whether this machine may reach them; --seconds 60 waits for a slow model.",
            ),
            Check("stream", lambda: _stream(patience), "Look at the lines above.", needs_database=True),
        ]
        if url:
            remedy = "Look at the address, at DNS and at the proxy."
            checks.append(Check("proxy", lambda: _proxy(url, patience), remedy, needs_database=True))
        is_stuck = False
        for check in checks:
            if check.needs_database and "database" in failed:
                self._line("FAIL", check.name, "not checked, because it needs the database.")
                failed.append(check.name)
                continue
            running = Running(check)
            running.start()
            running.join(seconds)
            for finding in list(running.findings):
                self._line("ok", check.name, finding)
            if running.is_alive():
                is_stuck = True
                self._line("FAIL", check.name, f"no answer within {seconds:g} s. {check.remedy}")
                failed.append(check.name)
            elif isinstance(running.error, Failed):
                self._line("FAIL", check.name, str(running.error))
                failed.append(check.name)
            elif running.error is not None:
                raise running.error
        if failed:
            sentence = f"{len(failed)} of {len(checks)} checks failed."
            if is_stuck:  # a thread or an executor that hangs would keep this process
                self.stderr.write(f"CommandError: {sentence}")
                sys.stdout.flush()
                os._exit(1)
            raise CommandError(sentence)

    def _line(self, verdict: str, name: str, text: str) -> None:
        style = self.style.SUCCESS if verdict == "ok" else self.style.ERROR
        self.stdout.write(f"{style(verdict):4} {name}: {visible(without_secrets(' '.join(text.split())))}")
        self.stdout.flush()


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep what a working site logs from between the lines of the checks, which say it as well."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


def _settings() -> Iterator[str]:
    found = run_checks()
    errors = [message for message in found if message.level >= ERROR]
    if errors:
        raise Failed("; ".join(f"{message.id}: {message.msg} {message.hint or ''}".strip() for message in errors))
    warnings = [message for message in found if message.level >= WARNING]
    yield "; ".join(f"{message.id}: {message.msg}" for message in warnings) or "no contradictions"


def _database() -> Iterator[str]:
    database.connect_once()
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
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
        raise Failed(
            f"does not answer: {type(error).__name__}: {error}. Look at REDIS_URL, and whether Redis runs."
        ) from error
    if kept != token.encode():
        raise Failed("forgets what it is given. Look at its maxmemory and its maxmemory-policy.")
    yield "answers"


def _mail(seconds: float) -> Iterator[str]:
    if settings.EMAIL_BACKEND != MAIL_BACKEND:
        yield "not used: nobody is sent a link to a new password. EMAIL_URL connects a mail server."
        return
    place = f"{settings.EMAIL_HOST} port {settings.EMAIL_PORT}"
    try:
        with get_connection(timeout=seconds):
            yield f"{place} takes mail"
    except (smtplib.SMTPException, OSError) as error:
        raise Failed(f"{place} takes no mail: {type(error).__name__}: {error}. Look at EMAIL_URL.") from error


def _models(seconds: float, *, keep: bool) -> Iterator[str]:
    chosen = candidates.all_of_use()
    if not chosen:
        yield "no key is configured, so the authors' texts are shown. OPENAI_API_KEY connects a model."
        return
    findings = async_to_sync(probe.probe_all)(chosen, seconds=seconds, keep=keep)
    for finding in findings:
        if finding.fault is None:
            yield finding.sentence()
    broken = [finding.sentence() for finding in findings if finding.fault is not None]
    if broken:
        raise Failed(" | ".join(broken))


def _stream(seconds: float) -> Iterator[str]:
    """Generate a text through producer, event log and database, as a learner's is: by a model where there is one."""
    with _somebody() as user:
        generation = _text_for(user, by_model=bool(candidates.configured()))
        started = time.monotonic()
        ended = async_to_sync(_written)(generation.pk, seconds=seconds)
        if ended is None or ended.status != Generation.Status.COMPLETED:
            raise Failed(f"ended as {ended and ended.status} ({ended and ended.fault}). The lines above say more.")
        if ended.authored_because == Generation.AuthoredBecause.BUDGET:
            raise Failed(
                "the day's tokens are used up, so learners are shown the authors' texts. Raise DAILY_TOKEN_BUDGET and "
                "USER_DAILY_TOKEN_BUDGET, or wait for the next day (UTC)."
            )
        if ended.authored_because:
            raise Failed(
                f"no model wrote ({ended.get_authored_because_display()}), so learners are shown the authors' texts. "
                "The lines of the models say why."
            )
        writer = (
            f"the model {ended.model}" if ended.source == Generation.Source.MODEL else "an author, for want of a key,"
        )
        yield f"{writer} wrote {len(ended.text)} characters, stored after {time.monotonic() - started:.1f} s"


async def _written(pk: uuid.UUID, *, seconds: float) -> Generation | None:
    process = Process()
    process.open()
    try:
        async with asyncio.timeout(seconds):
            ended = await viewer.wait_for_end(process, pk)
            await process.supervisor.wait_for_all()
            return ended
    except TimeoutError as late:
        await process.supervisor.cancel(pk)
        raise Failed(
            f"no end after {seconds:g} s. Look at the lines of the models; --seconds 60 waits for a slow model."
        ) from late
    finally:
        await process.close()


def _proxy(address: str, seconds: float) -> Iterator[str]:
    """Read a stream through the public address and look whether it arrives as it is written."""
    try:
        url = origin(address)
    except Unusable as fault:
        raise Failed(f"--url cannot be used: {fault}.") from fault
    with _somebody() as user, httpx2.Client(timeout=seconds) as client:
        try:
            _insist_on_no_redirect(client, url)
            yield f"{url}/healthz answers {_answer(client, f'{url}/healthz')}"
            stream = f"{url}/api/generations/{_text_for(user, by_model=False).pk}/stream"
            first, last, size = _arrival(client, stream, user, seconds=seconds)
        except httpx2.TimeoutException as error:
            raise Failed(
                f"{url} says nothing for {seconds:g} s. Look at the proxy, and whether the site runs."
            ) from error
        except httpx2.HTTPError as error:
            raise Failed(f"{url} cannot be read: {error}. {_remedy(error)}") from error
    if last - first < check_text.WRITING_SECONDS / 2:
        raise Failed(
            f"the text came all at once after {last:.1f} s: something in front of the site collects it. In nginx set "
            "proxy_buffering off, or let X-Accel-Buffering through; see deploy/nginx.conf."
        )
    yield f"{size} bytes, the first after {first:.2f} s and the last after {last:.2f} s"


def _remedy(error: httpx2.HTTPError) -> str:
    reason = str(error).lower()
    if "certificate" in reason:
        return "Look at the certificate: browsers refuse it too."
    if "ssl" in reason:
        return "Look at TLS in the proxy, and whether the address should begin with http://."
    if "name" in reason or "address" in reason:
        return "Look at the name, and whether DNS knows it."
    return "Look at the address and at the proxy, and whether the site runs."


def _insist_on_no_redirect(client: httpx2.Client, url: str) -> None:
    answer = client.get(f"{url}/")
    if not answer.is_redirect:
        return
    to = urljoin(f"{url}/", answer.headers.get("Location", ""))
    if to == f"{url}/":
        raise Failed(
            f"the site answers {to} with a redirect to itself: the proxy does not say X-Forwarded-Proto: https, or its "
            "address is not in TRUSTED_PROXIES."
        )
    raise Failed(f"{url}/ is a redirect to {to}. Give --url, and SITE_URL, the address where the site is.")


def _answer(client: httpx2.Client, url: str) -> int:
    response = client.get(url)
    if response.status_code != 200:
        raise Failed(f"{url} answers {response.status_code}. Look at SITE_URL, ALLOWED_HOSTS and the proxy.")
    return response.status_code


def _arrival(client: httpx2.Client, url: str, user: User, *, seconds: float) -> tuple[float, float, int]:
    """Return after how many seconds the first words and the last byte came, and how many bytes in all."""
    started, first, size = time.monotonic(), None, 0
    with client.stream("GET", url, headers={"Authorization": f"Bearer {create_token(user)}"}) as response:
        if response.is_redirect:
            raise Failed(
                "the site redirects to itself, because it does not see that the proxy was asked over https. The proxy "
                "has to send X-Forwarded-Proto, and TRUSTED_PROXIES has to name it."
            )
        if response.status_code != 200:
            raise Failed(
                f"the stream answers {response.status_code}. This command and the site have to use the same "
                "DATABASE_URL and SECRET_KEY."
            )
        for chunk in response.iter_raw():
            size += len(chunk)
            if first is None and b'"type":"token"' in chunk:
                first = time.monotonic() - started
            if time.monotonic() - started > seconds:
                raise Failed(f"the stream has no end after {seconds:g} s. Look at the log of the site.")
    last = time.monotonic() - started
    return last if first is None else first, last, size


@contextmanager
def _somebody() -> Iterator[User]:
    """Yield a person for the length of a check, gone afterwards with everything of theirs."""
    user = User.objects.create_guest()
    try:
        yield user
    finally:
        user.delete()


def _text_for(user: User, *, by_model: bool) -> Generation:
    source = Generation.Source.MODEL if by_model else Generation.Source.AUTHORED
    return Generation.objects.create(user=user, kind=check_text.NAME, source=source)
