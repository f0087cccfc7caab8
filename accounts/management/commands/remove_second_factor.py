from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts import second_factor
from accounts.models import User


class Command(BaseCommand):
    help = "Remove the second factor of somebody who has lost it, so that the password alone logs them in."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="User name.")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        user = User.objects.filter(username=name).first()
        if user is None:
            raise CommandError(f"There is nobody of the name {name!r}.")
        if not second_factor.remove(user):
            raise CommandError(f"{name} has no second factor.")
        self.stdout.write(f"The second factor of {name} is removed. Let them set up another on their account page.")
