from pathlib import Path

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin import apps as admin


class SimulatorConfig(AppConfig):
    name = "simulator"
    default = True

    def ready(self) -> None:
        from simulator import checks, schema, var_folder  # noqa: F401  # register themselves

        database = settings.DATABASES["default"]
        is_file = database["ENGINE"] == "django.db.backends.sqlite3"
        var_folder.tighten(settings.VAR_DIR, Path(database["NAME"]) if is_file else None)


class StaffAdminConfig(admin.AdminConfig):
    default = False
    default_site = "accounts.site.StaffSite"
