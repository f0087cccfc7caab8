"""Limits counted in the database hold under parallel requests, refill, and are forgotten."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections
from django.db.models import F
from django.test import RequestFactory
from django.utils import timezone

from accounts.limits import Limit, client_network
from accounts.models import RateCount
from tests.conftest import ROOT, SECRET_KEY
from tests.stores import Postgres

TEN_AN_HOUR = Limit.per_hour("test", 10)


def pass_time(time: timedelta) -> None:
    RateCount.objects.update(free_at=F("free_at") - time)


@pytest.mark.django_db(transaction=True)
def test_of_a_hundred_parallel_requests_as_many_pass_as_there_is_room() -> None:
    def take(_: int) -> bool:
        try:
            return TEN_AN_HOUR.take("alice")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as threads:
        assert sum(threads.map(take, range(100))) == 10


def test_the_same_on_postgresql(postgres: Postgres) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', verbosity=0)\n"
        "from django.db import connections\n"
        "from accounts.limits import Limit\n"
        "def take(_):\n"
        "    try: return Limit.per_hour('test', 10).take('alice')\n"
        "    finally: connections.close_all()\n"
        "with ThreadPoolExecutor(20) as threads: print('taken', sum(threads.map(take, range(100))))\n"
    )
    shell = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
    environment = {"DATABASE_URL": postgres.url, "SECRET_KEY": SECRET_KEY}
    printed = subprocess.run(shell, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "taken 10" in printed.stdout


@pytest.mark.django_db
class TestLimit:
    def test_after_the_burst_one_more_passes_for_each_refill(self) -> None:
        assert [TEN_AN_HOUR.take("alice") for _ in range(11)] == [True] * 10 + [False]
        assert 0 < TEN_AN_HOUR.seconds_to_wait("alice") <= 360
        pass_time(timedelta(minutes=6))
        assert TEN_AN_HOUR.seconds_to_wait("alice") == 0
        assert [TEN_AN_HOUR.take("alice") for _ in range(2)] == [True, False]

    def test_after_a_long_pause_there_is_room_for_one_burst_and_no_more(self) -> None:
        TEN_AN_HOUR.take("alice")
        pass_time(timedelta(days=30))
        assert [TEN_AN_HOUR.take("alice") for _ in range(11)] == [True] * 10 + [False]

    def test_people_and_limits_are_counted_apart(self) -> None:
        for _ in range(10):
            TEN_AN_HOUR.take("alice")
        assert TEN_AN_HOUR.take("bob")
        assert Limit.per_hour("other", 10).take("alice")

    def test_what_was_counted_can_be_forgotten(self) -> None:
        for _ in range(10):
            TEN_AN_HOUR.take("alice")
        TEN_AN_HOUR.clear("alice")
        assert TEN_AN_HOUR.take("alice")

    def test_zero_is_no_limit(self) -> None:
        unlimited = Limit.per_hour("test", 0)
        assert all(unlimited.take("alice") for _ in range(100))
        assert unlimited.seconds_to_wait("alice") == 0
        assert not RateCount.objects.exists()

    def test_the_table_holds_no_names(self) -> None:
        TEN_AN_HOUR.take("alice")
        assert "alice" not in RateCount.objects.get().key

    def test_only_rows_that_count_nothing_are_deleted(self) -> None:
        TEN_AN_HOUR.take("alice")
        assert not RateCount.objects.free().exists()
        RateCount.objects.create(key="free", free_at=timezone.now() - timedelta(days=1))
        assert RateCount.objects.free().get().key == "free"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_a_client_is_counted_by_its_address_or_its_ipv6_network(address: str, network: str) -> None:
    assert client_network(RequestFactory().get("/", REMOTE_ADDR=address)) == network
