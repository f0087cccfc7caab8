from pathlib import Path

from django.apps import AppConfig
from django.conf import settings


class SimulatorConfig(AppConfig):
    name = "simulator"

    def ready(self) -> None:
        from simulator import checks, schema, var_folder  # noqa: F401  # register themselves

        database = settings.DATABASES["default"]
        is_file = database["ENGINE"] == "django.db.backends.sqlite3"
        var_folder.tighten(settings.VAR_DIR, Path(database["NAME"]) if is_file else None)
