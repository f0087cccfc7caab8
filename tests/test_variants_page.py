"""Staff have up to four models write a brief side by side, in a real browser."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from playwright.sync_api import BrowserContext, Locator, Page, expect

from accounts.models import User
from generation.models import Generation
from professions.models import Brief, Profession, Variant
from tests.conftest import KEY, Server, ServerStarter
from tests.fake_openai import DEFAULT_TEXT, Behaviour, Ending, FakeOpenAI, RecordedRequest, Refusal
from tests.waiting import wait_until

expect.set_options(timeout=15_000)

HEALTHY, REFUSED, SLOW, CUT = "gpt-4o-mini", "gpt-refused", "gpt-slow", "gpt-cut"
TEXT = "## The late delivery\n\nThe roses come **two days** late.\n\n| Bed | Roses |\n|---|---|\n| 1 | 40 |"


@pytest.fixture
def brief(profession: Profession) -> Brief:
    return profession.ordered_briefs[0]


@pytest.fixture
def staff(db: None, _password: str) -> User:
    # "staff" itself is whom the server's first start makes.
    return User.objects.create(username="author", password=_password, is_staff=True, is_superuser=True)


@pytest.fixture
def own_server(start_own_server: ServerStarter, provider: FakeOpenAI) -> Server:
    """A server that has seen no other test's database: what is kept is logged by a content type, whose id it caches."""
    return start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)


def open_page(page: Page, server: Server, brief: Brief) -> None:
    """Log in and go from the brief to its variants."""
    page.goto(f"{server.url}/admin/login/?next=/admin/professions/brief/{brief.pk}/change/")
    page.fill("[name=login]", "author")
    page.fill("[name=password]", "correct horse battery")
    page.click("main [type=submit]")
    page.get_by_role("link", name="Variants").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(brief.title)


def write(page: Page, *models: str) -> None:
    for number in range(1, 5):
        page.get_by_label(f"Model {number}").fill(models[number - 1] if number <= len(models) else "")
    page.get_by_role("button", name="Write").click()


def column(page: Page, number: int) -> Locator:
    return page.locator(".variant").nth(number - 1)


def state(page: Page, number: int) -> Locator:
    return column(page, number).locator("[data-state-line]")


def text(page: Page, number: int) -> Locator:
    return column(page, number).locator("[data-text]")


def figure(page: Page, number: int, name: str) -> Locator:
    return column(page, number).locator(f"[data-figure={name}]")


def four_fates(provider: FakeOpenAI) -> None:
    provider.default = Behaviour(text=TEXT)
    provider.route(Behaviour(status=Refusal.NO_ACCESS), model=REFUSED)
    provider.route(Behaviour(text=TEXT, hold_after=6), model=SLOW)
    provider.route(Behaviour(ending=Ending.RESET, after_tokens=5, hold_after=5), model=CUT)


def release(provider: FakeOpenAI, *models: str) -> None:
    """Let the texts of these models go on that are waiting now; those of a server that is gone never will."""

    def waiting(fake: FakeOpenAI) -> list[RecordedRequest]:
        return [one for one in fake.requests if one.held and one.ended_at is None and one.model in models]

    provider.wait_for(lambda fake: len(waiting(fake)) == len(models))
    for request in waiting(provider):
        provider.release(request)


def write_variants(brief: Brief, staff: User, count: int) -> None:
    for number in range(1, count + 1):
        generation = Generation.objects.create(
            user=staff, source="model", only_model=HEALTHY, status="completed", text=f"{TEXT}\n\n<script>1</script>"
        )
        Variant.objects.create(brief=brief, number=number, generation=generation)


def queries_for(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


@pytest.mark.usefixtures("static_files")
def test_the_page_asks_the_database_as_often_for_twelve_earlier_variants_as_for_two(
    client: Client, staff: User, brief: Brief
) -> None:
    client.force_login(staff)
    path = reverse("admin:professions_brief_variants", args=[brief.pk])
    write_variants(brief, staff, 2)
    few = queries_for(client, path)
    write_variants(brief, staff, 10)
    assert queries_for(client, path) == few
    html = client.get(path).text
    assert html.count("<summary>") == html.count("&lt;script&gt;") == 12
    assert "<script>1" not in html


def test_whoever_may_not_change_briefs_does_not_see_the_page(client: Client, alice: User, brief: Brief) -> None:
    path = reverse("admin:professions_brief_variants", args=[brief.pk])
    client.force_login(alice)
    assert client.get(path).status_code == 302
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    assert client.get(path).status_code == 403


def test_four_models_come_to_four_different_ends_and_the_healthy_text_is_kept(
    own_server: Server, staff: User, brief: Brief, provider: FakeOpenAI, page: Page
) -> None:
    four_fates(provider)
    open_page(page, own_server, brief)
    write(page, HEALTHY, REFUSED, SLOW, CUT)
    expect(page.locator(".variant h3")).to_have_text([f"1 {HEALTHY}", f"2 {REFUSED}", f"3 {SLOW}", f"4 {CUT}"])
    expect(state(page, 2)).to_have_text("This model is not available with the keys of this site.")
    expect(state(page, 1)).to_have_text("Done")
    expect(text(page, 4)).not_to_be_empty()
    release(provider, CUT)
    expect(state(page, 4)).to_contain_text("broke off in the middle")

    # The slow one is still at it, whatever became of the others.
    expect(state(page, 3)).to_have_text("Being written")
    expect(text(page, 3)).to_have_attribute("aria-busy", "true")
    expect(figure(page, 3, "tokens")).to_contain_text("about")
    expect(figure(page, 3, "seconds")).to_have_text(re.compile(r"^[1-9]\d* s$"))
    release(provider, SLOW)
    expect(state(page, 3)).to_have_text("Done")
    expect(text(page, 3).locator("td").first).to_have_text("1")

    expect(text(page, 1).locator("h3")).to_have_text("The late delivery")
    expect(text(page, 1)).not_to_have_attribute("aria-busy", "true")
    healthy = Variant.objects.get(number=1).generation
    attempt = healthy.attempts.get()
    expect(figure(page, 1, "seconds")).to_have_text(f"{attempt.seconds:.2f} s")
    expect(figure(page, 1, "firstToken")).to_have_text(f"{attempt.first_token_seconds:.2f} s")
    expect(figure(page, 1, "tokens")).to_have_text(f"{attempt.prompt_tokens} in, {attempt.completion_tokens} out")
    expect(figure(page, 1, "cost")).to_contain_text("$0.0")
    expect(figure(page, 3, "cost")).to_have_text("price unknown")
    expect(column(page, 1).get_by_role("link", name="Generation record")).to_have_attribute(
        "href", f"/admin/generation/generation/{healthy.pk}/change/"
    )
    assert [column(page, number).get_by_role("button").count() for number in (1, 2, 3, 4)] == [1, 0, 1, 0]

    column(page, 1).get_by_role("button", name="Keep as the authored text").click()
    expect(page.locator(".messagelist")).to_contain_text("This text is now the authored text of the brief.")
    expect(page.locator("#id_authored_text")).to_have_value(TEXT)
    brief.refresh_from_db()
    assert brief.authored_text == TEXT
    assert str(healthy.pk) in LogEntry.objects.get().change_message


def test_the_state_is_announced_politely_and_the_focus_stays_where_it_is(
    server: Server, staff: User, brief: Brief, provider: FakeOpenAI, page: Page
) -> None:
    page.add_init_script("""
        window.heard = [];
        new MutationObserver(() => {
            const words = document.querySelector('[data-status]')?.textContent;
            if (words && words !== window.heard.at(-1)) window.heard.push(words);
        }).observe(document, {subtree: true, childList: true});
    """)
    four_fates(provider)
    open_page(page, server, brief)
    write(page, HEALTHY, REFUSED)
    expect(state(page, 1)).to_have_text("Done")
    wait_until(lambda: len(page.evaluate("window.heard")) == 3, what="three announcements")
    assert sorted(page.evaluate("window.heard")) == [
        f"1, {HEALTHY}: Done",
        f"2, {REFUSED}: This model is not available with the keys of this site.",
        "Being written…",
    ]
    assert page.locator("[aria-live] [data-text], [role=status] [data-text]").count() == 0
    expect(page.get_by_role("button", name="Write")).to_be_focused()


class Line:
    """A way to the server that can be cut, as a phone's between two cells."""

    def __init__(self, server: Server) -> None:
        self._far = ("127.0.0.1", server.port)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.server = replace(server, url=f"http://127.0.0.1:{self._listener.getsockname()[1]}")
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._far)
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # cut
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Break all connections; later ones are carried again."""
        for end in self._sockets:
            with suppress(OSError):  # ended before
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._sockets.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    opened = Line(server)
    yield opened
    opened.close()


def test_a_dropped_connection_costs_no_word_and_no_second_request(
    line: Line, staff: User, brief: Brief, provider: FakeOpenAI, page: Page
) -> None:
    seen: list[str] = []
    page.on("request", lambda asked: seen.append(asked.url) if "/stream" in asked.url else None)
    provider.default = Behaviour(text=TEXT, hold_after=6)
    open_page(page, line.server, brief)
    write(page, HEALTHY, SLOW)
    for number in (1, 2):
        expect(text(page, number)).not_to_be_empty()
    line.cut()
    for number in (1, 2):
        expect(state(page, number)).to_contain_text("Connection lost")
    release(provider, HEALTHY, SLOW)
    for number in (1, 2):
        expect(state(page, number)).to_have_text("Done", timeout=40_000)
        expect(text(page, number).locator("td").last).to_have_text("40")
        expect(figure(page, number, "tokens")).to_contain_text("out")
    assert len(provider.requests) == 2
    # Each went on from where it was, and nothing was written twice.
    resumed = [re.fullmatch(r".*/api/generations/(.+)/stream\?after=\w+-1-([1-9]\d*)", url) for url in seen[1:]]
    assert {str(found[1]) for found in resumed if found} == {str(one.pk) for one in Generation.objects.all()}


def test_columns_go_on_after_the_server_was_killed(
    own_server: Server, start_own_server: ServerStarter, staff: User, brief: Brief, provider: FakeOpenAI, page: Page
) -> None:
    provider.default = Behaviour(text=TEXT, hold_after=6)
    open_page(page, own_server, brief)
    half = re.compile(r"^\s*The late delivery\s*The\s*$")
    write(page, HEALTHY, SLOW)
    for number in (1, 2):
        expect(text(page, number)).to_have_text(half)
    own_server.process.kill()
    for number in (1, 2):
        expect(state(page, number)).to_contain_text("Connection lost")
    start_own_server(port=own_server.port, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    provider.wait_for_requests(4)
    for number in (1, 2):
        expect(state(page, number)).to_contain_text("again from the start", timeout=40_000)
        expect(text(page, number)).to_have_text(half)
    release(provider, HEALTHY, SLOW)
    for number in (1, 2):
        expect(state(page, number)).to_have_text("Done", timeout=40_000)
        expect(text(page, number).locator("h3")).to_have_count(1)
    assert set(Generation.objects.values_list("text", flat=True)) == {TEXT}


def test_a_refused_request_is_answered_with_a_sentence(
    authored_server: Server, staff: User, brief: Brief, page: Page
) -> None:
    open_page(page, authored_server, brief)
    write(page, HEALTHY)
    expect(page.locator("[data-problem]")).to_contain_text("No key is configured")
    expect(page.locator(".variant")).to_have_count(0)
    expect(page.get_by_role("button", name="Write")).not_to_have_attribute("aria-disabled", "true")
    staff.is_staff = False
    staff.save()
    page.get_by_role("button", name="Write").click()
    expect(page.locator("[data-problem]")).not_to_contain_text("No key is configured")


def test_earlier_variants_are_listed_and_kept_without_javascript(
    own_server: Server, staff: User, brief: Brief, provider: FakeOpenAI, page: Page, context: BrowserContext
) -> None:
    four_fates(provider)
    open_page(page, own_server, brief)
    write(page, HEALTHY, REFUSED)
    expect(state(page, 1)).to_have_text("Done")
    expect(state(page, 2)).to_contain_text("not available")
    page.get_by_role("button", name="Write").click()
    expect(page.locator(".variants-earlier > tbody")).to_have_count(2)

    plain = context.browser.new_context(java_script_enabled=False, storage_state=context.storage_state())  # type: ignore[union-attr]
    with plain:
        page = plain.new_page()
        page.goto(f"{own_server.url}/admin/professions/brief/{brief.pk}/variants/")
        expect(page.locator("noscript .errornote")).to_be_visible()
        expect(page.get_by_role("button", name="Write")).to_be_disabled()
        first = page.locator(".variants-earlier > tbody").filter(has_text=HEALTHY).last
        first.locator("summary").click()
        expect(first.locator("h3")).to_have_text("The late delivery")
        first.get_by_role("button", name="Keep").click()
        expect(page.locator("#id_authored_text")).to_have_value(TEXT)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_has_no_serious_barrier(
    server: Server, staff: User, brief: Brief, provider: FakeOpenAI, page: Page, scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    four_fates(provider)
    provider.default = Behaviour(text=DEFAULT_TEXT + TEXT)
    barriers: list[str] = []

    def look(where: str) -> None:
        found = Axe().run(page).response["violations"]
        barriers.extend(f"{where}: {one['id']}" for one in found if one["impact"] in {"serious", "critical"})
        wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        barriers.extend([f"{where}: scrolls sideways"] if wide else [])
        small = page.evaluate(
            "[...document.querySelectorAll('#content :is(a, button, input:not([type=hidden]), summary)')]"
            ".filter((target) => target.checkVisibility() && target.getBoundingClientRect().height < 24)"
            ".map((target) => target.outerHTML)"
        )
        barriers.extend(f"{where}: small target {target}" for target in small)

    open_page(page, server, brief)
    look("empty")
    write(page, HEALTHY, REFUSED, SLOW, CUT)
    expect(state(page, 1)).to_have_text("Done")
    expect(text(page, 3)).not_to_be_empty()
    look("mid-stream")
    release(provider, CUT, SLOW)
    for number, end in enumerate(["Done", "not available", "Done", "broke off"], start=1):
        expect(state(page, number)).to_contain_text(end)
    look("ended")
    page.reload()
    for summary in page.locator("summary").all():
        summary.click()
    look("earlier")
    page.set_viewport_size({"width": 320, "height": 800})
    look("at 320 px")
    assert barriers == []
