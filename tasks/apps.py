from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "tasks"

    def ready(self) -> None:
        from accounts.guests import guest_became_user
        from generation import streams
        from tasks import running
        from tasks.presentation import ReportPresentation, TaskPresentation

        streams.register(running.TASK, TaskPresentation())
        streams.register(running.REPORT, ReportPresentation())
        guest_became_user.connect(running.hand_over)
