from typing import Any

import uvicorn
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from django.utils.crypto import get_random_string

from professions.models import Profession
from simulator.static_files import collect_if_changed


class Command(BaseCommand):
    help = "Prepare the database, the catalogue and the static files, then serve the site."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--workers", type=int, default=1, help="Processes; more than one needs REDIS_URL.")
        parser.add_argument("--reload", action="store_true", help="Restart when a source file changes.")

    def handle(self, *args: Any, host: str, port: int, workers: int, reload: bool, **options: Any) -> None:
        if workers > 1 and not settings.REDIS_URL:
            raise CommandError(
                "More than one process needs REDIS_URL: without it a learner whose stream comes to another process "
                "than the one that writes sees no text grow. Set REDIS_URL, or use --workers 1."
            )
        call_command("migrate", interactive=False, verbosity=0)
        if not Profession.objects.exists():
            call_command("load_professions", stdout=self.stdout)
        if not settings.DEBUG:
            collect_if_changed()
        self._create_first_staff()
        self.stdout.write(f"Serving on http://{host}:{port}")
        self.stdout.flush()
        uvicorn.run(
            "simulator.asgi:application",
            host=host,
            port=port,
            workers=workers,
            reload=reload,
            loop="uvloop",
            http="httptools",
            lifespan="off",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=3,
        )

    def _create_first_staff(self) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        password = get_random_string(20)
        users.create_superuser("staff", password=password)
        self.stdout.write(f"Made the first staff account for /admin/: user staff, password {password}")
        self.stdout.write("This password is shown only now. Change it after the first log-in.")
