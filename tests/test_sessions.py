"""Sessions go on while they are used, and a page left open goes on after a log-in or a sign-up in another tab."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from importlib import import_module

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client as DjangoClient
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from knox.models import AuthToken
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pytest_django import DjangoAssertNumQueries

from accounts.access import Access, in_force
from accounts.models import User
from accounts.sessions import RENEWED_AT
from accounts.tokens import create_token
from professions.models import Profession
from tasks.models import Submission, Task
from tests.client import Client, Stream
from tests.conftest import Server
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.test_browser import go_on, start_as_guest
from tests.test_guests import Visitor
from tests.test_refusals import session_of

SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
TWO_WEEKS, HALF_A_YEAR = timedelta(days=14), timedelta(days=180)
PASSWORD = "correct horse battery"


def days_left() -> int:
    return round((Session.objects.get().expire_date - timezone.now()) / timedelta(days=1))


def let_days_pass(days: int) -> None:
    """Make the one session as old as it would be, had nobody used it."""
    row = Session.objects.get()
    store = SessionStore(row.session_key)
    store[RENEWED_AT] -= days * 24 * 3600
    store.save()
    Session.objects.update(expire_date=row.expire_date - timedelta(days=days))


@pytest.fixture
def as_member(server: Server, profession: Profession, alice: User) -> Iterator[Client]:
    """A browser that has been here a moment ago."""
    with Client(server.url) as browser:
        browser.http.cookies.set("sessionid", session_of(alice))
        browser.get("/simulations")
        yield browser


@pytest.mark.parametrize(
    "path", ["/simulations", "/api/simulations", "/api/tasks/profession/{profession}/current/stream"]
)
def test_a_session_that_is_used_after_a_day_begins_its_time_anew(
    as_member: Client, profession: Profession, path: str
) -> None:
    let_days_pass(13)
    assert days_left() == 1
    answered = as_member.get(path.format(profession=profession.pk))
    assert answered.status_code == 200
    assert "Max-Age=1209600" in answered.headers["Set-Cookie"]
    assert days_left() == 14


def test_within_a_day_a_session_is_not_written_again(as_member: Client) -> None:
    before = Session.objects.get().expire_date
    for path in ("/simulations", "/api/simulations", "/"):
        assert "sessionid" not in as_member.get(path).headers.get("Set-Cookie", "")
    assert Session.objects.get().expire_date == before


def test_a_session_that_nobody_used_for_two_weeks_has_ended(as_member: Client) -> None:
    let_days_pass(15)
    assert as_member.get("/api/simulations").status_code == 401


def test_a_guest_is_remembered_for_half_a_year_and_with_an_account_for_two_weeks(
    client: DjangoClient, profession: Profession, static_files: None
) -> None:
    client.post(f"/professions/{profession.slug}/start")
    assert client.session.get_expiry_age() == HALF_A_YEAR.total_seconds()
    client.post("/accounts/signup/", {"username": "carol", "password1": PASSWORD, "password2": PASSWORD})
    assert client.session.get_expiry_age() == TWO_WEEKS.total_seconds()


def test_looking_at_a_page_without_a_person_writes_no_session(client: DjangoClient, profession: Profession) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        client.get("/api/professions")
    assert not [query for query in queries if "django_session" in query["sql"]]
    assert not Session.objects.exists()


def sign_up(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/accounts/signup/")
    page.fill("[name=username]", "carol")
    page.fill("[name=password1]", PASSWORD)
    page.fill("[name=password2]", PASSWORD)
    page.click("main form [type=submit], main form button")
    page.wait_for_url("**/simulations")


def log_in(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/accounts/login/")
    page.fill("[name=login]", "alice")
    page.fill("[name=password]", PASSWORD)
    page.click("main form [type=submit], main form button")
    page.wait_for_url("**/simulations")


@pytest.mark.parametrize("enter", [sign_up, log_in])
def test_what_was_typed_in_one_tab_is_handed_in_after_signing_up_in_another(
    authored_server: Server, profession: Profession, alice: User, page: Page, context: BrowserContext, enter: object
) -> None:
    assert callable(enter)
    start_as_guest(page, authored_server, profession.slug)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    page.fill("[data-answer]", "Typed as a guest.")
    enter(context.new_page(), authored_server)
    page.locator("[data-answer]").press("Control+Enter")
    go_on(page)
    expect(page.locator("[data-progress]")).to_contain_text("2 of 3")
    assert "/account/csrf" in authored_server.log
    submission = Submission.objects.get()
    assert submission.answer == "Typed as a guest."
    assert not submission.task.simulation.user.is_guest
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    page.fill("[data-answer]", "And another one.")
    page.locator("[data-answer]").press("Control+Enter")
    go_on(page)
    expect(page.locator("[data-progress]")).to_contain_text("3 of 3")


def test_an_answer_is_not_lost_when_the_new_token_of_the_page_cannot_be_had_at_once(
    authored_server: Server, profession: Profession, alice: User, page: Page, context: BrowserContext
) -> None:
    start_as_guest(page, authored_server, profession.slug)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    page.fill("[data-answer]", "Typed as a guest.")
    log_in(context.new_page(), authored_server)
    page.route("**/account/csrf", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    page.locator("[data-answer]").press("Control+Enter")
    expect(page.locator("[data-retry]")).to_be_visible()
    assert page.locator("[data-answer-form] [name=csrfmiddlewaretoken]").get_attribute("value")
    page.unroute("**/account/csrf")
    page.click("[data-retry]")
    go_on(page)
    expect(page.locator("[data-progress]")).to_contain_text("2 of 3")
    assert Submission.objects.get().answer == "Typed as a guest."


def test_the_same_without_javascript(authored_server: Server, profession: Profession, browser: Browser) -> None:
    with browser.new_context(java_script_enabled=False) as plain:
        page = plain.new_page()
        page.goto(f"{authored_server.url}/professions/{profession.slug}")
        page.click("[data-start]")
        expect(page.locator("[data-question]")).to_contain_text("It is day 1.", timeout=15_000)
        page.fill("[data-answer]", "\nTyped <b>as</b> a guest\nin lines.")
        sign_up(plain.new_page(), authored_server)
        page.click("[data-submit]")
        expect(page.locator("h1")).to_have_text("The form was too old")
        expect(page.locator("[name=answer]")).to_have_value("\nTyped <b>as</b> a guest\nin lines.")
        page.click("[data-send-again]")
        go_on(page)
        expect(page.locator("[data-progress]")).to_contain_text("2 of 3")
    assert Submission.objects.get().answer == "\nTyped <b>as</b> a guest\nin lines."


def test_an_answer_sent_when_the_session_is_over_is_shown_again(
    authored_server: Server, profession: Profession
) -> None:
    with Visitor(authored_server.url) as visitor:
        visitor.start(profession)
        Session.objects.all().delete()
        form = {"csrfmiddlewaretoken": visitor.http.cookies["csrftoken"], "answer": "Typed <b>long</b>."}
        refused = visitor.http.post(f"/tasks/{Task.objects.get().pk}/answer", data=form)
    assert refused.status_code == 401
    assert "Typed &lt;b&gt;long&lt;/b&gt;." in refused.text
    assert "/accounts/login/?next=/simulations" in refused.text


@pytest.mark.parametrize(
    ("origin", "form"),
    [
        ("https://evil.example", {"answer": "Planted."}),
        ("null", {"answer": "Planted."}),
        ("", {"password": "Planted.", "login": "alice"}),
    ],
    ids=["another site", "a frame without origin", "a password"],
)
def test_what_another_site_sent_and_what_holds_a_password_is_not_shown_again(
    authored_server: Server, origin: str, form: dict[str, str]
) -> None:
    with Client(authored_server.url) as browser:
        refused = browser.http.post("/accounts/login/", data=form, headers={"Origin": origin or authored_server.url})
    assert refused.status_code == 403
    assert "Planted." not in refused.text


def test_the_token_of_a_page_cannot_be_read_from_another_site(authored_server: Server) -> None:
    with Client(authored_server.url) as browser:
        answered = browser.get("/account/csrf", Origin="https://evil.example")
    assert answered.json()["token"]
    assert "no-store" in answered.headers["Cache-Control"]
    assert "Access-Control-Allow-Origin" not in answered.headers


def test_open_streams_end_soon_after_what_they_were_let_in_by(
    server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(hold_after=1)
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    people = {
        name: User.objects.create_user(name) for name in ("stays", "token ends", "token revoked", "left", "changed")
    }
    stays, ends, revoked, left, changed = people.values()
    with ExitStack() as open_streams:

        def read(user: User, *, by_token: bool) -> Stream:
            client = open_streams.enter_context(Client(server.url, token=create_token(user) if by_token else ""))
            if not by_token:
                client.http.cookies.set("sessionid", session_of(user))
            stream = open_streams.enter_context(client.stream(path))
            stream.until("token")
            return stream

        control = read(stays, by_token=True)
        streams = [read(ends, by_token=True), read(revoked, by_token=True)]
        streams += [read(left, by_token=False), read(changed, by_token=False)]
        AuthToken.objects.filter(user=ends).update(expiry=timezone.now())
        revoked.end_tokens()
        Session.objects.filter(pk=session_key_of(left)).delete()
        changed.set_password(PASSWORD)
        changed.save()
        for stream in streams:
            assert [event for event in stream if event["type"] != "token"] == []
        assert provider.open_streams == 5, "leaving is not cancelling: the texts are still being written"
        provider.release()
        assert control.until("done")


@pytest.mark.django_db
def test_one_statement_asks_for_all_streams_whether_what_they_were_let_in_by_still_holds(
    alice: User, bob: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for user in (alice, bob):
        create_token(user)
    by_token = {Access(token.user_id, token=token.pk) for token in AuthToken.objects.all()}
    by_session = {Access(user.pk, session=session_of(user), password=user.password) for user in (alice, bob)}
    ended = {
        Access(alice.pk, token="revoked"),
        Access(alice.pk, session="left", password=alice.password),
        Access(bob.pk, session=session_of(bob), password="an earlier one"),
        Access(bob.pk + 1, session=session_of(bob), password=bob.password),
        Access(bob.pk, password=bob.password),
    }
    with django_assert_num_queries(1):
        assert in_force(by_token | by_session | ended) == by_token | by_session
    assert in_force(by_token) == by_token
    assert in_force(by_session) == by_session


def session_key_of(user: User) -> str:
    keys = [row.session_key for row in Session.objects.all() if row.get_decoded().get("_auth_user_id") == str(user.pk)]
    (key,) = keys
    return key
