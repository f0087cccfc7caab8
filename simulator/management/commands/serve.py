import fcntl
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from django.utils.crypto import get_random_string
from uvicorn.supervisors import ChangeReload, Multiprocess

from professions.models import Profession
from simulator.protocol import Protocol
from simulator.static_files import collect_if_changed

EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104  # what somebody chose
STALLED_READER_SECONDS = 30
# An open stream takes two: the learner's connection and the provider's. Where the system sets no limit this is enough.
MOST_OPEN_FILES = 65_536


class Command(BaseCommand):
    requires_system_checks = []  # they run below, when the number of processes is known
    help = "Prepare the database, the catalogue and the static files, then serve the site."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other computers in.")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--uds", metavar="PATH", help="Serve a proxy on this computer on a unix socket.")
        parser.add_argument(
            "--workers", type=int, default=settings.WORKERS, help="Processes; more than one needs REDIS_URL."
        )
        parser.add_argument("--reload", action="store_true", help="Restart when a source file changes.")

    def handle(
        self, *args: Any, host: str, port: int, uds: str | None, workers: int, reload: bool, **options: Any
    ) -> None:
        settings.WORKERS = workers
        self.check(display_num_errors=False)
        with _only_process():
            self._prepare()
            _allow_many_open_files()
            self.stdout.write(f"Serving on {uds or _address(host, port)}")
            if not uds:
                self._tell_others(host, port)
            self.stdout.flush()
            _serve(host=host, port=port, uds=uds, workers=workers, reload=reload)

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
        address = _address(reachable, port)
        self.stdout.write(f"Other computers would reach it at {address}, but the site answers at {settings.SITE_URL}.")
        self.stdout.write(f"Set SITE_URL={address} in the environment or in .env, and start it again.")

    def _prepare(self) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        if not Profession.objects.exists():
            call_command("load_professions", stdout=self.stdout)
        if not settings.DEBUG:
            collect_if_changed()
        self._create_first_staff()

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
def _only_process() -> Iterator[None]:
    """Keep a second server off an SQLite file without Redis: each would take the other's texts for abandoned.

    The kernel gives the lock back when this process ends, in whatever way.
    """
    database = settings.DATABASES["default"]
    if settings.REDIS_URL or database["ENGINE"] != "django.db.backends.sqlite3":
        yield
        return
    with Path(f"{database['NAME']}.serving").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise CommandError(
                f"Another process serves {database['NAME']} already. Stop it, or set REDIS_URL so that several "
                "processes can share the work."
            ) from taken
        yield


def _allow_many_open_files() -> None:
    """Use what the system allows: the usual soft limit of 1,024 is for programs that wait with select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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


def _serve(*, host: str, port: int, uds: str | None, workers: int, reload: bool) -> None:
    config = uvicorn.Config(
        "simulator.asgi:application",
        host=host,
        port=port,
        uds=uds,
        workers=workers,
        reload=reload,
        loop="uvloop",
        http=Protocol,
        ws="none",
        proxy_headers=False,  # simulator/proxies.py reads them
        lifespan="on",
        log_config=None,
        server_header=False,
        backlog=4096,
        timeout_graceful_shutdown=3,
    )
    if uds and Path(uds).is_socket():  # left behind by a server that is gone
        Path(uds).unlink()
    listener = config.bind_socket()
    # The kernel drops a reader that takes nothing, or is gone without a word, when this much time has passed with
    # something to send; streams send a comment at least every 15 s. Connections inherit it from the listener.
    if not uds:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_READER_SECONDS * 1000)
    server = uvicorn.Server(config)
    if reload:
        ChangeReload(config, target=server.run, sockets=[listener]).run()
    elif workers > 1:
        Multiprocess(config, sockets=[listener]).run()
    else:
        server.run(sockets=[listener])
