from django.apps import AppConfig
from django.contrib.admin import apps as admin


class SimulatorConfig(AppConfig):
    name = "simulator"
    default = True

    def ready(self) -> None:
        from simulator import checks, schema  # noqa: F401  # register themselves


class StaffAdminConfig(admin.AdminConfig):
    default = False
    default_site = "accounts.site.StaffSite"
