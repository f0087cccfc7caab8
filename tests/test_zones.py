"""Times are shown in the reader's own zone, whatever a cookie claims, and texts in their own language."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import translation
from django.utils.translation import trans_real
from playwright.sync_api import Browser, expect

from accounts.models import User
from generation.kinds import kind_of
from generation.models import Generation
from professions.levels import problem_with_levels
from professions.models import Profession
from tasks import running
from tasks.models import Simulation
from tests.conftest import Server
from tests.test_refusals import session_of

# New Year's Eve in London is New Year's Day in Auckland.
EVENING = datetime(2026, 12, 31, 20, 0, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("static_files")


@pytest.fixture
def simulation(alice: User, profession: Profession) -> Simulation:
    simulation = running.open_simulation(user=alice, profession=profession, language="en")
    Simulation.objects.update(started_at=EVENING)
    return simulation


@pytest.fixture
def as_alice(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.mark.parametrize(
    ("cookie", "date"),
    [
        ("", "Dec. 31, 2026"),
        ("Pacific/Auckland", "Jan. 1, 2027"),
        ("America/New_York", "Dec. 31, 2026"),
        ("Moon/Tranquility", "Dec. 31, 2026"),
        ("../../etc/passwd", "Dec. 31, 2026"),
        ("x" * 4000, "Dec. 31, 2026"),
    ],
)
def test_the_zone_of_the_browser_counts_if_there_is_one(
    as_alice: Client, simulation: Simulation, cookie: str, date: str
) -> None:
    as_alice.cookies["timezone"] = cookie
    assert date in as_alice.get("/simulations").text
    as_alice.cookies["timezone"] = ""
    assert "Dec. 31, 2026" in as_alice.get("/simulations").text, "it counts for its own request only"


def test_a_zone_that_was_chosen_counts_more_and_in_other_browsers_too(
    as_alice: Client, alice: User, simulation: Simulation
) -> None:
    as_alice.cookies["timezone"] = "America/New_York"
    as_alice.post("/account/timezone", {"timezone": "Pacific/Auckland"})
    assert "Jan. 1, 2027" in as_alice.get("/simulations").text
    assert "Pacific/Auckland" in as_alice.get("/account").text
    other = Client()
    other.post("/accounts/login/", {"login": "alice", "password": "correct horse battery"})
    assert "Jan. 1, 2027" in other.get("/simulations").text
    other.post("/account/timezone", {"timezone": ""})
    assert "Dec. 31, 2026" in other.get("/simulations").text
    assert User.objects.get(pk=alice.pk).timezone == ""


def test_a_zone_that_is_not_there_cannot_be_chosen(as_alice: Client, alice: User) -> None:
    assert "not known here" in as_alice.post("/account/timezone", {"timezone": "Moon/Tranquility"}, follow=True).text
    assert User.objects.get(pk=alice.pk).timezone == ""


def test_answers_to_programs_stay_in_utc(as_alice: Client, simulation: Simulation) -> None:
    as_alice.cookies["timezone"] = "Pacific/Auckland"
    assert as_alice.get(f"/api/simulations/{simulation.pk}").json()["started_at"] == "2026-12-31T20:00:00Z"


def test_staff_read_times_in_their_zone_and_spending_by_days_of_the_budget(client: Client, admin_user: User) -> None:
    client.force_login(User.objects.get(pk=admin_user.pk))
    client.cookies["timezone"] = "Pacific/Auckland"
    generation = Generation.objects.create(user_id=admin_user.pk, source="model", status="completed")
    Generation.objects.update(created_at=EVENING)
    assert "Jan. 1, 2027, 9 a.m." in client.get(f"/admin/generation/generation/?id={generation.pk}").text
    assert "Day (UTC)" in client.get("/admin/generation/spending/").text


def test_a_browser_tells_its_zone_and_the_first_page_is_right_already(
    server: Server, browser: Browser, alice: User, simulation: Simulation
) -> None:
    with browser.new_context(timezone_id="Pacific/Auckland", locale="en-GB", base_url=server.url) as context:
        context.add_cookies([{"name": "sessionid", "value": session_of(alice), "url": server.url}])
        page = context.new_page()
        page.goto("/simulations")
        expect(page.locator("time")).to_have_text("January 1, 2027")
        page.reload()
        expect(page.locator("time")).to_have_text("Jan. 1, 2027")


@pytest.fixture
def in_german(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Some of the product's words in a second language."""
    words = {
        "What to try next": "Was als Nächstes zu versuchen ist",
        "write a list of at least two levels": "schreibe eine Liste von mindestens zwei Stufen",
    }
    with monkeypatch.context() as patched:
        german = trans_real.translation("de")
        for english, translated in words.items():
            patched.setitem(german._catalog._catalogs[0], english, translated)  # type: ignore[attr-defined]  # noqa: SLF001
        yield


def test_an_authors_report_is_in_the_language_of_its_simulation(
    in_german: None, alice: User, profession: Profession
) -> None:
    simulation = running.open_simulation(user=alice, profession=profession, language="de")
    for _ in profession.ordered_briefs:
        Generation.objects.update(status="completed", text="A question.")
        running.submit(user=alice, task_id=simulation.current_task.pk, answer="Mulch.")
        simulation = running.find(alice, pk=simulation.pk)
    with translation.override("en"):
        report = kind_of(simulation.current_text).fallback(simulation.current_text)
        assert "### Was als Nächstes zu versuchen ist" in report
        assert translation.get_language() == "en"


def test_what_is_wrong_with_levels_is_said_in_the_authors_language(in_german: None) -> None:
    with translation.override("de"):
        assert problem_with_levels([], maximum=2) == "schreibe eine Liste von mindestens zwei Stufen"


def test_zones_come_with_the_product_where_the_system_has_none() -> None:
    requirements = (Path(settings.BASE_DIR) / "requirements.txt").read_text(encoding="utf-8")
    assert "\ntzdata==" in requirements
