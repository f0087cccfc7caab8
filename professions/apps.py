from django.apps import AppConfig


class ProfessionsConfig(AppConfig):
    name = "professions"

    def ready(self) -> None:
        from generation import streams
        from professions.streams import VariantPresentation
        from professions.variants import VARIANT

        streams.register(VARIANT, VariantPresentation())
