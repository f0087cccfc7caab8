"""The people and rows of a run, in a throwaway database."""

import io
import itertools
from pathlib import Path

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from accounts.tokens import create_token
from generation.models import Generation
from professions.models import Profession
from tasks import running
from tasks.models import Simulation

_numbers = itertools.count()


def prepare_database() -> None:
    call_command("migrate", interactive=False, verbosity=0)
    call_command("load_professions", verbosity=0, stdout=io.StringIO())


def database_file() -> Path:
    return Path(settings.DATABASES["default"]["NAME"])


def new_learner() -> User:
    return User.objects.create(username=f"learner-{next(_numbers)}")


def token_of(user: User) -> str:
    return create_token(user)


@transaction.atomic
def tokens_of_new_learners(count: int) -> list[str]:
    """Give each of so many new people a token."""
    return [create_token(new_learner()) for _ in range(count)]


def session_of(user: User) -> str:
    """Log somebody in and give the cookie."""
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    return str(store.session_key)


def a_profession() -> Profession:
    return Profession.objects.published().order_by("pk")[0]


def _write(generation: Generation, text: str) -> None:
    Generation.objects.filter(pk=generation.pk).update(
        status=Generation.Status.COMPLETED, text=text, epoch=1, finish_reason="stop", finished_at=timezone.now()
    )


def written_text(user: User, *, characters: int) -> Generation:
    """Make a text that was written to its end."""
    generation = Generation.objects.create(user=user, kind="plain", source=Generation.Source.MODEL)
    line = "What do you tell the supplier about the two days — and why?\n"  # the dash makes it more than ASCII
    _write(generation, (line * (characters // len(line) + 1))[:characters])
    generation.refresh_from_db()
    return generation


def simulation_at_its_first_task(user: User, profession: Profession) -> Simulation:
    simulation = running.open_simulation(user=user, profession=profession, language="en")
    _write(simulation.current_text, _text_of_a_task())
    return simulation


def finished_simulation(user: User, profession: Profession) -> Simulation:
    simulation = simulation_at_its_first_task(user, profession)
    while simulation.report is None:
        running.submit(user=user, task_id=simulation.current_task.pk, answer="I call the supplier and ask for half.")
        simulation = running.find(user, pk=simulation.pk)
        _write(simulation.current_text, _text_of_a_task())
    return simulation


def _text_of_a_task() -> str:
    return "## The late delivery\n\nThe supplier writes: *two days late*.\n\n- In stock: 6 kg\n\n" * 20
