import os
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from django.db import DatabaseError, connection
from django.utils.crypto import get_random_string
from uvicorn.supervisors import ChangeReload, Multiprocess

from professions.models import Profession
from simulator import database
from simulator.listener import CannotListen, address_of, bind, bind_unix, listen, port_number, url_of
from simulator.serving_lock import InUse, serving_lock
from web.protocol import Protocol
from web.static_files import collect_if_changed

BACKLOG = 4096
EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104  # what somebody chose
# An open stream takes two: the learner's connection and the provider's. Where the system sets no limit this is enough.
MOST_OPEN_FILES = 65_536


class Command(BaseCommand):
    requires_system_checks = []  # they run below, when the number of processes is known
    help = "Prepare the database, the catalogue and the static files, then serve the site."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other computers in.")
        parser.add_argument("--port", default="8000", help="0 takes any free one.")
        parser.add_argument("--uds", metavar="PATH", help="Serve a proxy on this computer on a unix socket.")
        parser.add_argument(
            "--workers", default=str(settings.WORKERS), help="Processes; more than one needs REDIS_URL."
        )
        parser.add_argument("--reload", action="store_true", help="Restart when a source file changes.")

    def handle(
        self, *args: Any, host: str, port: str, uds: str | None, workers: str, reload: bool, **options: Any
    ) -> None:
        settings.WORKERS = _number_of_workers(workers)
        self.check(display_num_errors=False)
        with ExitStack() as until_the_end:
            with _one_sentence():
                listener = until_the_end.enter_context(bind_unix(Path(uds)) if uds else bind(host, port_number(port)))
                if not uds:
                    _let_default_address_follow(listener.getsockname()[1])
                until_the_end.enter_context(_only_process())
                with _whole_or_not_at_all():
                    self._prepare()
                _allow_many_open_files()
                listen(listener, backlog=BACKLOG)
                self._create_first_staff()
            self.stdout.write(f"Serving on {address_of(listener)}")
            if not uds:
                self._tell_others(host, listener.getsockname()[1])
            self.stdout.flush()
            _serve(listener, workers=settings.WORKERS, reload=reload)

    def _tell_others(self, host: str, port: int) -> None:
        """Print where other computers find this one, and what to set if the site would refuse them there."""
        if _is_loopback(host) or settings.SITE_URL.startswith("https:"):  # then others come through a proxy
            return
        named = str(urlsplit(settings.SITE_URL).hostname)
        is_name = not (_is_loopback(named) or _is_address(named))
        if is_name or named == host or (host in EVERY_ADDRESS and _is_own_address(named)):
            self.stdout.write(f"Other computers reach it at {settings.SITE_URL}")
            return
        reachable = _address_towards("192.0.2.1") or socket.gethostname() if host in EVERY_ADDRESS else host
        address = url_of(reachable, port)
        self.stdout.write(f"Other computers would reach it at {address}, but the site answers at {settings.SITE_URL}.")
        self.stdout.write(f"Set SITE_URL={address} in the environment or in .env, and start it again.")

    def _prepare(self) -> None:
        database.connect_once()
        call_command("migrate", interactive=False, verbosity=0)
        if not Profession.objects.exists():
            call_command("load_professions", stdout=self.stdout)
        if not settings.DEBUG:
            collect_if_changed()

    def _create_first_staff(self) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        name, password = "staff", get_random_string(20)
        if users.filter(username=name).exists():
            name = f"staff-{get_random_string(4)}"
        users.create_superuser(name, password=password)
        self.stdout.write(f"Made the first staff account for /admin/: user {name}, password {password}")
        self.stdout.write("This password is shown only now. Change it after the first log-in.")


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Raise whatever stands against the start as what to do about it."""
    try:
        yield
    except CannotListen as reason:
        raise CommandError(str(reason)) from reason
    except DatabaseError as error:
        raise CommandError(database.sentence(error)) from error
    except OSError as error:
        raise CommandError(
            f"{error.filename or settings.VAR_DIR} cannot be written: {error.strerror}. Make room, or let the user "
            "who serves write there"
        ) from error


@contextmanager
def _only_process() -> Iterator[None]:
    """Keep a second server off an SQLite file without Redis: each would take the other's texts for abandoned."""
    own = settings.DATABASES["default"]
    if own["ENGINE"] != "django.db.backends.sqlite3":
        yield
        return
    try:
        with serving_lock(Path(own["NAME"]), shared=bool(settings.REDIS_URL)):
            yield
    except InUse as taken:
        raise CommandError(
            f"Another process serves {own['NAME']} already. Stop it, or set REDIS_URL so that several "
            "processes can share the work."
        ) from taken


@contextmanager
def _whole_or_not_at_all() -> Iterator[None]:
    """Remove the SQLite file of a first start that failed, so that the next one begins anew.

    Django stores a migration's tables before it stores that they are there; where the disk fills between the two, no
    later start would get beyond "table already exists".
    """
    own = settings.DATABASES["default"]
    file = Path(own["NAME"])
    is_alone = own["ENGINE"] == "django.db.backends.sqlite3" and not settings.REDIS_URL
    is_first = is_alone and not (file.exists() and file.stat().st_size)
    is_whole = False
    try:
        yield
        is_whole = True
    finally:
        if is_first and not is_whole:
            connection.close()
            for ending in ("", "-wal", "-shm"):
                file.with_name(file.name + ending).unlink(missing_ok=True)


def _let_default_address_follow(port: int) -> None:
    """Name the port served on in SITE_URL where nobody set it: mails, links and refusals lead there."""
    if not os.environ.get("SITE_URL", "").strip():  # what .env says stands here as well
        # Other processes of this server read the environment.
        os.environ["SITE_URL"] = settings.SITE_URL = url_of("127.0.0.1", port)


def _allow_many_open_files() -> None:
    """Use what the system allows: the usual soft limit of 1,024 is for programs that wait with select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError):  # macOS has a limit of its own below "no limit"
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _number_of_workers(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or not int(text):
        raise CommandError(f"{text!r} is no number of processes; choose 1 or more")
    return int(text)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return ip_address(host).is_loopback if _is_address(host) else host == "localhost"


def _is_own_address(host: str) -> bool:
    return not _is_loopback(host) and _address_towards(host) == host


def _address_towards(other: str) -> str:
    """Return the address that this computer has where it reaches another one, empty without a way there."""
    with socket.socket(socket.AF_INET6 if ":" in other else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((other, 9))  # sends nothing
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def _serve(listener: socket.socket, *, workers: int, reload: bool) -> None:
    config = uvicorn.Config(
        "simulator.asgi:application",
        workers=workers,
        reload=reload,
        loop="uvloop",
        http=Protocol,
        ws="none",
        proxy_headers=False,  # web/proxies.py reads them
        lifespan="on",
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    if reload:
        ChangeReload(config, target=server.run, sockets=[listener]).run()
    elif workers > 1:
        Multiprocess(config, sockets=[listener]).run()
    else:
        server.run(sockets=[listener])
