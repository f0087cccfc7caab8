"""What looks for texts to take over costs the same however many there are, and locks nobody out."""

import subprocess
import sys

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from generation import ending
from generation.models import Generation
from tests.conftest import ROOT, SECRET_KEY
from tests.stores import Postgres

INDEX = "generation_by_status"


def test_sqlite_looks_only_at_texts_that_may_be_taken_over(db: None) -> None:
    for texts in (Generation.objects.abandoned(), Generation.objects.expired()):
        plan = texts.values_list("pk", flat=True).explain()
        assert INDEX in plan
        assert "SCAN" not in plan


def test_postgresql_does_so_too(postgres: Postgres) -> None:
    code = (
        "from django.core.management import call_command\n"
        "call_command('migrate', verbosity=0)\n"
        "from django.db import connection\n"
        "from accounts.models import User\n"
        "from generation.models import Generation\n"
        "user = User.objects.create(username='many')\n"
        "ended = dict(user=user, kind='task', source='authored', status='completed')\n"
        "Generation.objects.bulk_create([Generation(**ended) for _ in range(20000)], batch_size=5000)\n"
        "connection.cursor().execute('ANALYZE generation_generation')\n"
        "for texts in (Generation.objects.abandoned(), Generation.objects.expired()):\n"
        "    print('plan', texts.values_list('pk', flat=True).explain().replace(chr(10), ' '))\n"
        "user.generations.all().delete(); user.delete()\n"
    )
    shell = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
    environment = {"DATABASE_URL": postgres.url, "SECRET_KEY": SECRET_KEY}
    printed = subprocess.run(shell, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    plans = [line for line in printed.splitlines() if line.startswith("plan")]
    assert len(plans) == 2
    for plan in plans:
        assert INDEX in plan
        assert "Seq Scan on generation_generation" not in plan


@pytest.mark.parametrize("status", [Generation.Status.COMPLETED, Generation.Status.RUNNING, Generation.Status.PENDING])
def test_where_nothing_is_to_be_ended_nothing_is_written(alice: User, status: Generation.Status) -> None:
    Generation.objects.create(user=alice, kind="task", source=Generation.Source.AUTHORED, status=status)
    with CaptureQueriesContext(connection) as asked:
        assert ending.end_orphans() == 0
    assert all(query["sql"].startswith("SELECT") for query in asked)
