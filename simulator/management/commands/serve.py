import fcntl
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from django.utils.crypto import get_random_string
from uvicorn.supervisors import ChangeReload, Multiprocess

from professions.models import Profession
from simulator.static_files import collect_if_changed

STALLED_READER_SECONDS = 30
# An open stream takes two: the learner's connection and the provider's. Where the system sets no limit this is enough.
MOST_OPEN_FILES = 65_536


class Command(BaseCommand):
    requires_system_checks = []  # they run below, when the number of processes is known
    help = "Prepare the database, the catalogue and the static files, then serve the site."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--workers", type=int, default=settings.WORKERS, help="Processes; more than one needs REDIS_URL."
        )
        parser.add_argument("--reload", action="store_true", help="Restart when a source file changes.")

    def handle(self, *args: Any, host: str, port: int, workers: int, reload: bool, **options: Any) -> None:
        settings.WORKERS = workers
        self.check(display_num_errors=False)
        with _only_process():
            self._prepare()
            _allow_many_open_files()
            self.stdout.write(f"Serving on http://{host}:{port}")
            self.stdout.flush()
            _serve(host=host, port=port, workers=workers, reload=reload)

    def _prepare(self) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        if not Profession.objects.exists():
            call_command("load_professions", stdout=self.stdout)
        if not settings.DEBUG:
            collect_if_changed()
        self._create_first_staff()
        call_command("delete_leftovers", stdout=self.stdout)

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


def _serve(*, host: str, port: int, workers: int, reload: bool) -> None:
    config = uvicorn.Config(
        "simulator.asgi:application",
        host=host,
        port=port,
        workers=workers,
        reload=reload,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        server_header=False,
        backlog=4096,
        timeout_graceful_shutdown=3,
    )
    listener = config.bind_socket()
    # The kernel drops a reader that takes nothing, or is gone without a word, when this much time has passed with
    # something to send; streams send a comment at least every 15 s. Connections inherit it from the listener.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_READER_SECONDS * 1000)
    server = uvicorn.Server(config)
    if reload:
        ChangeReload(config, target=server.run, sockets=[listener]).run()
    elif workers > 1:
        Multiprocess(config, sockets=[listener]).run()
    else:
        server.run(sockets=[listener])
