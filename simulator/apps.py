from django.apps import AppConfig


class SimulatorConfig(AppConfig):
    name = "simulator"

    def ready(self) -> None:
        from simulator import checks, schema  # noqa: F401  # register themselves
