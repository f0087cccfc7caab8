from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import second_factor, sessions  # noqa: F401  # connect their receivers
