from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "tasks"

    def ready(self) -> None:
        from accounts.guests import guest_became_user
        from tasks import running

        guest_became_user.connect(running.hand_over)
