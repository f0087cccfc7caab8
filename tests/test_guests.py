"""Guests cost money within limits, and nobody who never looks at a text causes one to be paid for."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx2
import pytest
from django.utils import timezone

from accounts.models import User
from generation.models import LEASE, DailyTokens, Generation
from professions.models import Profession
from tasks import running
from tasks.models import Simulation
from tests.client import Client, text_of
from tests.conftest import KEY, Server, ServerStarter
from tests.fake_openai import FakeOpenAI
from tests.test_limits import pass_time
from tests.test_refusals import session_of
from tests.viewers import sweep_and_finish


class Visitor(Client):
    """A browser without JavaScript and without an account."""

    def __init__(self, url: str, **headers: str) -> None:
        super().__init__(url, **headers)
        self.http.cookies.set("csrftoken", "a" * 32, domain="127.0.0.1")

    def send_start(self, profession: Profession) -> httpx2.Response:
        """Send the start form."""
        form = {"csrfmiddlewaretoken": self.http.cookies["csrftoken"]}
        return self.http.post(f"/professions/{profession.slug}/start", data=form)

    def start(self, profession: Profession) -> str:
        """Send the start form and return where it leads, or the status of a refusal."""
        response = self.send_start(profession)
        return str(response.headers.get("Location", response.status_code))


@pytest.fixture
def visitor(server: Server) -> Iterator[Visitor]:
    with Visitor(server.url) as visitor:
        yield visitor


def let_the_sweep_come() -> None:
    """Make all texts old enough for the sweep, and sweep."""
    Generation.objects.update(asked_at=timezone.now() - LEASE)
    sweep_and_finish()


def test_thirty_starts_that_nobody_follows_cost_nothing(
    server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    def start(_: int) -> str:
        with Visitor(server.url) as visitor:
            path = visitor.start(profession)
            assert visitor.get(path).status_code == 200, "a program follows the redirect as well"
            return path

    with ThreadPoolExecutor(10) as threads:
        assert len(set(threads.map(start, range(30)))) == 30
    assert set(Generation.objects.values_list("status", flat=True)) == {"pending"}
    let_the_sweep_come()
    assert set(Generation.objects.values_list("status", flat=True)) == {"pending"}
    assert provider.requests == []


def test_a_guests_text_is_written_when_the_pages_stream_asks(
    visitor: Visitor, profession: Profession, provider: FakeOpenAI
) -> None:
    visitor.get(visitor.start(profession))
    events = visitor.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert text_of(events) == Generation.objects.get().text
    assert len(provider.requests) == 1


def test_a_guests_text_is_written_when_the_page_without_javascript_looks_again(
    visitor: Visitor, profession: Profession, provider: FakeOpenAI
) -> None:
    path = visitor.start(profession)
    assert f'content="0;url={path}?again"' in visitor.get(path).text
    assert f'content="3;url={path}?again"' in visitor.get(f"{path}?again").text
    provider.wait_for(lambda fake: len(fake.requests) == 1)


def test_a_guest_who_starts_twice_has_one_simulation(server: Server, visitor: Visitor, profession: Profession) -> None:
    first = visitor.start(profession)
    with ThreadPoolExecutor(10) as threads:
        assert set(threads.map(lambda _: visitor.start(profession), range(10))) == {first}
    assert Simulation.objects.count() == User.objects.count() == 1


UNREAD = [
    ("HEAD", {}),
    ("GET", {"Sec-Purpose": "prefetch"}),
    ("GET", {"Sec-Purpose": "prefetch;prerender"}),
    ("GET", {"Purpose": "prefetch"}),
    ("GET", {"X-Moz": "prefetch"}),
    ("GET", {"Sec-Fetch-Site": "cross-site"}),
    ("GET", {"Sec-Fetch-Site": "same-site"}),
    ("GET", {"Sec-Fetch-Site": "cross-site", "Authorization": "Basic eDp5"}),
]


@pytest.mark.parametrize(("method", "headers"), UNREAD)
@pytest.mark.parametrize("is_guest", [True, False], ids=["guest", "member"])
def test_what_no_person_opened_starts_and_spends_nothing(
    server: Server, profession: Profession, provider: FakeOpenAI, is_guest: bool, method: str, headers: dict[str, str]
) -> None:
    person = User.objects.create(username="person", is_guest=is_guest)
    simulation = running.open_simulation(user=person, profession=profession, language="en")
    paths = [
        f"/simulations/{simulation.pk}?again",
        f"/api/tasks/profession/{profession.pk}/current",
        f"/api/tasks/profession/{profession.pk}/current/stream",
        f"/api/generations/{simulation.current_text.pk}/stream",
    ]
    with Client(server.url) as browser:
        browser.http.cookies.set("sessionid", session_of(person))
        for path in paths:
            answered = browser.http.request(method, path, headers=headers)
            is_answered = method == "HEAD" or path.startswith("/simulations")
            assert (answered.status_code == 200) == is_answered, (path, answered.status_code)
    assert Generation.objects.get().status == "pending"
    assert provider.requests == []


@pytest.mark.parametrize(("method", "headers"), UNREAD[:3])
def test_what_no_person_opened_starts_no_clock(
    server: Server, profession: Profession, alice: User, method: str, headers: dict[str, str]
) -> None:
    simulation = running.open_simulation(user=alice, profession=profession, language="en")
    Generation.objects.update(status="completed", text="All of it.")
    with Client(server.url) as browser:
        browser.http.cookies.set("sessionid", session_of(alice))
        browser.http.request(method, f"/simulations/{simulation.pk}", headers=headers)
        assert simulation.tasks.get().clock_started_at is None
        browser.get(f"/simulations/{simulation.pk}")
    assert simulation.tasks.get().clock_started_at is not None


def test_a_program_that_makes_simulations_and_reads_none_costs_nothing(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    assert as_alice.post("/api/simulations", {"profession_id": profession.pk}).status_code == 201
    let_the_sweep_come()
    assert Generation.objects.get().status == "pending"
    assert provider.requests == []


def test_a_class_joins_at_once_and_comes_back_and_more_have_to_wait(
    start_own_server: ServerStarter, profession: Profession
) -> None:
    server = start_own_server()

    def start(_: int) -> str:
        with Visitor(server.url, **{"X-Forwarded-For": "2001:db8:1:2::7"}) as visitor:
            return visitor.start(profession)

    with ThreadPoolExecutor(10) as threads:
        led_to = list(threads.map(start, range(70)))
    assert sum(path.startswith("/simulations/") for path in led_to) == 60
    assert led_to.count("429") == 10
    assert User.objects.filter(is_guest=True).count() == Simulation.objects.count() == 60

    with Visitor(server.url, **{"X-Forwarded-For": "2001:db8:1:2:ffff::8"}) as neighbour:
        refused = neighbour.send_start(profession)
        assert refused.status_code == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 60
        assert "Many guests have just begun from your network." in refused.text
        assert f"/accounts/signup/?next=/professions/{profession.slug}" in refused.text
        pass_time(timedelta(minutes=1))
        assert neighbour.start(profession).startswith("/simulations/")
    with Visitor(server.url, **{"X-Forwarded-For": "2001:db8:1:3::7"}) as stranger:
        assert stranger.start(profession).startswith("/simulations/")


def test_when_the_guests_budget_is_spent_they_read_authors_texts_and_new_ones_are_invited_to_sign_up(
    start_own_server: ServerStarter, profession: Profession, provider: FakeOpenAI, alice: User
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, GUEST_DAILY_TOKEN_BUDGET="1")
    current = f"/api/tasks/profession/{profession.pk}/current"
    with Visitor(server.url) as first, Visitor(server.url) as second:
        first.start(profession)
        second.start(profession)
        assert first.get(current).json()["source"] == "model"
        late = second.get(current).json()
        assert (late["source"], late["authored_because"]) == ("authored", "budget")
    guests = User.objects.count()
    with Visitor(server.url) as third:
        refused = third.send_start(profession)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert "Sign up to go on now, or come back tomorrow." in refused.text
    assert User.objects.count() == guests, "no guest is made who could start nothing"
    with Client(server.url) as member:
        member.http.cookies.set("sessionid", session_of(alice))
        assert member.get(current).json()["source"] == "model"
    assert DailyTokens.objects.get(is_of_guests=True).tokens < DailyTokens.objects.get(user=alice).tokens * 2


def test_parallel_fresh_starts_of_one_person_make_one_simulation(as_alice: Client, profession: Profession) -> None:
    with ThreadPoolExecutor(20) as threads:
        made = list(
            threads.map(lambda _: as_alice.post("/api/simulations", {"profession_id": profession.pk}), range(60))
        )
    assert {response.status_code for response in made} == {201}
    assert len({response.json()["id"] for response in made}) == 1
    assert Simulation.objects.count() == 1


def test_who_starts_again_and_again_after_looking_has_to_wait(
    authored_server: Server, profession: Profession, alice: User, bob: User, alice_token: str
) -> None:
    with Client(authored_server.url, token=alice_token) as client:
        for _ in range(11):
            assert client.post("/api/simulations", {"profession_id": profession.pk}).status_code == 201
            assert client.get(f"/api/tasks/profession/{profession.pk}/current").status_code == 200
        refused = client.post("/api/simulations", {"profession_id": profession.pk})
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_starts")
        assert set(refused.json()) == {"code", "detail", "message"}
        assert 0 < int(refused.headers["Retry-After"]) <= 360
        assert Simulation.objects.count() == 11
        assert Simulation.objects.current().count() == 1, "the refused start left the current one as it is"
        pass_time(timedelta(minutes=6))
        assert client.post("/api/simulations", {"profession_id": profession.pk}).status_code == 201


def test_a_fresh_start_in_another_language_is_another_simulation(profession: Profession, alice: User) -> None:
    first = running.start_afresh(user=alice, profession=profession, language="en")
    assert running.start_afresh(user=alice, profession=profession, language="en") == first
    assert running.start_afresh(user=alice, profession=profession, language="ru") != first
