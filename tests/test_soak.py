"""Everything at once and at random, in a few seconds; `make soak` does the same for ten minutes."""

import logging
from collections.abc import Callable

import pytest
from django.db import connection

from tests.conftest import ServerStarter
from tests.fake_openai import FakeOpenAI
from tests.soak import Plan, Site, Soak
from tests.stores import Postgres, Redis

pytestmark = pytest.mark.quiet

Play = Callable[[Site], None]


@pytest.fixture
def with_model(provider: FakeOpenAI, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    caplog.set_level(logging.INFO, "soak")
    caplog.set_level(logging.WARNING, "httpx2")
    # Keys of its own: what is learned of them here is nothing to the tests that follow on the same database.
    return {"OPENAI_API_KEYS": "sk-test-soak-one,sk-test-soak-two", "OPENAI_BASE_URL": provider.base_url}


@pytest.fixture
def play_at_random(provider: FakeOpenAI) -> Play:
    """Play on a site, then look whether anything was lost."""

    def play(site: Site) -> None:
        soak = Soak(site, provider, Plan.from_environment())
        soak.run()
        assert soak.was_rough()
        assert soak.answers_lost_or_stored_twice() == []
        assert soak.texts_that_nobody_wrote() == []
        assert soak.texts_seen_otherwise() == []
        assert soak.marks_lost_or_made_up() == []
        assert soak.calls_without_reason() == []
        assert soak.errors_logged() == []
        assert soak.slow_exits() == []
        assert soak.what_grew() == []

    return play


def test_one_process_on_sqlite_loses_nothing_when_it_dies(
    start_own_server: ServerStarter, with_model: dict[str, str], play_at_random: Play
) -> None:
    database = {"DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}"}
    play_at_random(Site(start_own_server, with_model | database, processes=1))


def test_two_processes_on_postgresql_and_redis_lose_nothing_when_they_die(
    start_own_server: ServerStarter,
    with_model: dict[str, str],
    play_at_random: Play,
    postgres: Postgres,
    redis_server: Redis,
) -> None:
    stores = {"DATABASE_URL": postgres.url, "REDIS_URL": redis_server.url}
    play_at_random(Site(start_own_server, with_model | stores, processes=2, connections=postgres.connections))
