"""Nobody spends more than was allowed, however many ask at once, and no learner is left in the middle of a run."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta

import pytest
from django.db import connections
from django.test import Client as DjangoClient
from django.test import override_settings
from django.utils import timezone

from accounts.models import User
from accounts.tokens import create_token
from generation import budget
from generation.model_request import Message, ModelRequest
from generation.models import Attempt, DailyTokens, Generation
from professions.models import Profession
from tests.client import Client, shown_text
from tests.conftest import KEY, ROOT, SECRET_KEY, Server, ServerStarter, make_profession
from tests.fake_openai import Behaviour, Ending, FakeOpenAI, Refusal
from tests.stores import Postgres

REQUEST = ModelRequest([Message(role="user", content="x" * 300)], max_tokens=1500)
ESTIMATE = 100 + 4 + 1500


def spent(user: User | None, *, is_of_guests: bool = False) -> int:
    return DailyTokens.objects.get(user=user, is_of_guests=is_of_guests).tokens


@override_settings(USER_DAILY_TOKEN_BUDGET=10 * ESTIMATE, DAILY_TOKEN_BUDGET=0)
@pytest.mark.django_db(transaction=True)
def test_of_a_hundred_parallel_texts_as_many_are_begun_as_the_day_allows(alice: User) -> None:
    assert _begun_of_a_hundred(alice) == 10
    assert spent(alice) == 10 * ESTIMATE


@override_settings(USER_DAILY_TOKEN_BUDGET=0, DAILY_TOKEN_BUDGET=10 * ESTIMATE - 1)
@pytest.mark.django_db(transaction=True)
def test_the_sites_budget_holds_as_well_and_at_most_one_text_goes_over(alice: User) -> None:
    assert _begun_of_a_hundred(alice) == 10
    assert spent(None) == 10 * ESTIMATE


def _begun_of_a_hundred(*people: User) -> int:
    def begin(number: int) -> bool:
        try:
            return budget.reserve(people[number % len(people)].pk, REQUEST) is not None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as threads:
        return sum(threads.map(begin, range(100)))


@override_settings(USER_DAILY_TOKEN_BUDGET=0, GUEST_DAILY_TOKEN_BUDGET=10 * ESTIMATE - 1, DAILY_TOKEN_BUDGET=0)
@pytest.mark.django_db(transaction=True)
def test_all_guests_together_share_a_budget_and_members_none_of_it(alice: User) -> None:
    guests = [User.objects.create_guest() for _ in range(5)]
    assert _begun_of_a_hundred(*guests) == 10
    assert spent(None, is_of_guests=True) == 10 * ESTIMATE
    assert budget.reserve(alice.pk, REQUEST) is not None


def test_the_same_on_postgresql(postgres: Postgres) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', verbosity=0)\n"
        "from django.db import connections\n"
        "from accounts.models import User\n"
        "from generation import budget\n"
        "from generation.model_request import Message, ModelRequest\n"
        "user = User.objects.create(username='budget', is_guest=True)\n"
        "def begin(_):\n"
        "    try: return budget.reserve(user.pk, ModelRequest([Message(role='user', content='x' * 300)])) is not None\n"
        "    finally: connections.close_all()\n"
        "with ThreadPoolExecutor(20) as threads: print('begun', sum(threads.map(begin, range(100))))\n"
    )
    limits = {
        "USER_DAILY_TOKEN_BUDGET": str(10**9),
        "GUEST_DAILY_TOKEN_BUDGET": str(10 * ESTIMATE),
        "DAILY_TOKEN_BUDGET": str(10**9),
    }
    shell = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
    environment = {"DATABASE_URL": postgres.url, "SECRET_KEY": SECRET_KEY, **limits}
    printed = subprocess.run(shell, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "begun 10" in printed.stdout


@override_settings(USER_DAILY_TOKEN_BUDGET=5 * ESTIMATE, DAILY_TOKEN_BUDGET=2 * ESTIMATE)
@pytest.mark.django_db
def test_what_the_site_refuses_is_not_counted_against_the_person(alice: User) -> None:
    assert [budget.reserve(alice.pk, REQUEST) is not None for _ in range(4)] == [True, True, False, False]
    assert (spent(alice), spent(None)) == (2 * ESTIMATE, 2 * ESTIMATE)


@override_settings(USER_DAILY_TOKEN_BUDGET=0, GUEST_DAILY_TOKEN_BUDGET=ESTIMATE, DAILY_TOKEN_BUDGET=0)
@pytest.mark.django_db
def test_a_guest_who_signs_up_counts_on_a_budget_of_their_own_from_then_on() -> None:
    guest = User.objects.create_guest()
    begun = budget.reserve(guest.pk, REQUEST)
    assert begun is not None
    assert budget.reserve(guest.pk, REQUEST) is None
    User.objects.update(is_guest=False)
    assert budget.reserve(guest.pk, REQUEST) is not None
    budget.reconcile(begun, spent=100)
    assert spent(None, is_of_guests=True) == 100, "what was begun as a guest is counted as a guest's"


@override_settings(USER_DAILY_TOKEN_BUDGET=1000, DAILY_TOKEN_BUDGET=0)
@pytest.mark.django_db
def test_a_limit_set_in_the_middle_of_the_day_counts_what_was_spent_before(alice: User) -> None:
    generation = Generation.objects.create(user=alice, kind="task", source="model")
    Attempt.objects.create(
        generation=generation, epoch=1, number=1, seconds=1, prompt_tokens=900, completion_tokens=100
    )
    assert budget.reserve(alice.pk, REQUEST) is None


@override_settings(USER_DAILY_TOKEN_BUDGET=ESTIMATE, DAILY_TOKEN_BUDGET=0)
@pytest.mark.django_db
def test_a_new_day_begins_with_nothing_spent(alice: User) -> None:
    DailyTokens.objects.create(day=timezone.now().date() - timedelta(days=1), user=alice, tokens=10**9)
    assert budget.reserve(alice.pk, REQUEST) is not None


def test_what_was_reserved_becomes_what_the_provider_counted(
    as_alice: Client, alice: User, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(text="A short text.", cached_tokens=7)
    as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    attempt = Attempt.objects.get()
    assert attempt.prompt_tokens == provider.requests[0].prompt_tokens
    assert attempt.completion_tokens == len(provider.requests[0].tokens_sent)
    assert attempt.cached_tokens == 7
    assert not attempt.tokens_estimated
    assert spent(alice) == attempt.tokens


def test_a_stream_that_was_cut_is_counted_at_an_estimate(
    as_alice: Client, alice: User, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.script(Behaviour(text="word " * 60, ending=Ending.RESET, after_tokens=40), Behaviour(text="Whole."))
    as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    cut, whole = Attempt.objects.order_by("number")
    assert cut.tokens_estimated
    assert not whole.tokens_estimated
    assert cut.prompt_tokens == budget.estimated_prompt_tokens(Generation.objects.get().messages)
    assert spent(alice) == cut.tokens + whole.tokens


def test_a_refused_request_costs_nothing(
    as_alice: Client, alice: User, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(status=Refusal.SERVER_ERROR)
    as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert Attempt.objects.count() == 3
    assert spent(alice) == 0


def test_at_the_limit_a_run_is_finished_on_authored_texts_and_a_new_one_has_to_wait(
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI, alice: User
) -> None:
    other = make_profession("florist")
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, USER_DAILY_TOKEN_BUDGET="1")
    with Client(server.url, token=create_token(alice)) as client:
        first = client.get(f"/api/tasks/profession/{profession.pk}/current").json()
        assert first["source"] == "model"
        events = client.events(f"/api/tasks/{first['id']}/submit/stream", body={"answer": "mulch"})
        done = events[-1]["data"]
        assert (done["source"], done["authored_because"]) == ("authored", "budget")
        assert shown_text(events) == profession.ordered_briefs[1].authored_text
        third = client.post(f"/api/tasks/{done['task_id']}/submit", {"answer": "x"}).json()["next_task"]
        report = client.post(f"/api/tasks/{third['id']}/submit", {"answer": "x"}).json()
        assert report["completed"]
        assert len(provider.requests) == 1

        refused = client.get(f"/api/tasks/profession/{other.pk}/current/stream")
        assert (refused.status_code, refused.json()["code"]) == (429, "budget_exhausted")
        midnight = datetime.combine(timezone.now().date() + timedelta(days=1), time.min, tzinfo=UTC)
        assert abs(int(refused.headers["Retry-After"]) - (midnight - timezone.now()).total_seconds()) < 60
        assert client.get(f"/api/tasks/profession/{other.pk}/current").status_code == 429
        assert client.post("/api/simulations", {"profession_id": profession.pk}).status_code == 429
        assert client.get(f"/api/simulations/{report['final_report']['simulation_id']}").status_code == 200
    assert "the day's tokens are used up (budget_exhausted): the authored text is shown" in server.log


@override_settings(OPENAI_API_KEYS=[KEY], USER_DAILY_TOKEN_BUDGET=1)
def test_the_start_button_says_that_the_day_is_used_up(
    client: DjangoClient, profession: Profession, alice: User, static_files: None
) -> None:
    DailyTokens.objects.create(day=timezone.now().date(), user=alice, tokens=1)
    client.force_login(alice)
    page = client.post(f"/professions/{profession.slug}/start", follow=True)
    assert page.status_code == 200
    assert "New simulations can be started tomorrow." in page.text


def test_without_an_authored_text_a_client_that_waits_is_told_when_to_come_back(
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI, alice: User
) -> None:
    profession.briefs.update(authored_text="")
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, USER_DAILY_TOKEN_BUDGET="1")
    with Client(server.url, token=create_token(alice)) as client:
        first = client.get(f"/api/tasks/profession/{profession.pk}/current").json()
        refused = client.post(f"/api/tasks/{first['id']}/submit", {"answer": "x"})
    assert (refused.status_code, refused.json()["code"]) == (429, "budget_exhausted")
    assert int(refused.headers["Retry-After"]) > 0


def test_one_persons_limit_is_not_anothers(
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI, alice: User, bob: User
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, USER_DAILY_TOKEN_BUDGET="1")
    for person in (alice, bob):
        with Client(server.url, token=create_token(person)) as client:
            assert client.get(f"/api/tasks/profession/{profession.pk}/current").json()["source"] == "model"


def test_a_site_without_a_key_has_no_limit(
    authored_server: Server, profession: Profession, alice: User, alice_token: str
) -> None:
    DailyTokens.objects.create(day=timezone.now().date(), user=alice, tokens=10**9)
    with Client(authored_server.url, token=alice_token) as client:
        assert client.get(f"/api/tasks/profession/{profession.pk}/current").json()["source"] == "authored"
