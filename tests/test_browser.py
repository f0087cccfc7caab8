"""Learners in a real browser."""

import re
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Browser, Page, Route, expect

from accounts.models import User
from generation.models import CandidateHealth, Generation
from professions.loading import load_packs
from professions.models import Brief, Profession
from professions.packs import SHIPPED
from tasks import running
from tasks.models import Simulation, Submission, Task
from tests.conftest import KEY, Server, ServerStarter
from tests.fake_openai import Behaviour, Ending, FakeOpenAI
from tests.test_refusals import session_of
from tests.waiting import wait_until

expect.set_options(timeout=15_000)

# Notes how long the text is whenever it changes.
WATCH_GROWTH = """
    window.lengths = [];
    const look = () => {
        const text = document.querySelector('[data-question]')?.innerText.trim().length ?? 0;
        if (text && text !== window.lengths.at(-1)) window.lengths.push(text);
    };
    new MutationObserver(look).observe(document, {subtree: true, childList: true, characterData: true});
"""


def start_as_guest(page: Page, server: Server, slug: str) -> None:
    """Get to the first words of the first task in two clicks."""
    page.add_init_script(WATCH_GROWTH)
    page.goto(server.url)
    page.click(f"a[data-profession][href$='{slug}']")
    page.click("[data-start]")
    expect(page.locator("[data-question]")).not_to_be_empty()


def go_on(page: Page) -> None:
    """Go on from the debrief of an answer that is being handed in."""
    page.wait_for_url("**/debrief")
    page.click("[data-go-on]")


def play_to_the_report(page: Page) -> list[str]:
    """Answer every task, reloading in the middle of the second text, and give the texts that were shown."""
    texts = []
    total = int(page.locator("[data-progress]").inner_text().split()[-1])
    for order in range(1, total + 1):
        expect(page.locator("[data-progress]")).to_contain_text(f"{order} of {total}")
        if order == 2:
            expect(page.locator("[data-question]")).to_have_text(re.compile(r"\S.{40}", re.DOTALL))
            page.fill("[data-answer]", "half an answ")
            page.reload()
            expect(page.locator("[data-answer]")).to_have_value("half an answ")
        expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
        texts.append(page.locator("[data-question]").inner_text())
        page.fill("[data-answer]", f"My answer to task {order}.")
        page.locator("[data-answer]").press("Control+Enter")
        go_on(page)
    page.wait_for_url("**/report")
    return texts


def assert_grew(page: Page) -> None:
    lengths = page.evaluate("window.lengths")
    assert len(lengths) >= 5
    assert all(earlier < later for earlier, later in pairwise(lengths[:5]))


@pytest.fixture
def project_manager(transactional_db: None) -> Profession:
    load_packs([SHIPPED / "project-manager.yaml"])
    return Profession.objects.get(slug="project-manager")


def test_a_guest_plays_a_shipped_profession_on_authored_texts(
    authored_server: Server, project_manager: Profession, page: Page
) -> None:
    start_as_guest(page, authored_server, "project-manager")
    expect(page.locator("[data-source]")).to_contain_text("authors")
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    assert_grew(page)
    texts = play_to_the_report(page)
    assert len(texts) == 5
    answers = list(Submission.objects.order_by("pk").values_list("answer", flat=True))
    assert answers == [f"My answer to task {order}." for order in range(1, 6)]
    report = page.locator("[data-report]")
    expect(report).to_contain_text("Two weeks in Port Ellary are behind you")
    expect(page.locator("body")).to_contain_text("My answer to task 5.")


def test_a_guest_plays_on_texts_of_a_model(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page
) -> None:
    provider.default = Behaviour(tokens_per_second=40)
    start_as_guest(page, server, profession.slug)
    expect(page.locator("[data-source]")).to_contain_text("model")
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    assert_grew(page)
    play_to_the_report(page)
    expect(page.locator("[data-report]")).not_to_be_empty()
    expect(page.locator("[data-report]")).not_to_have_attribute("aria-busy", "true")
    assert len(provider.requests) == 4, "the reload in the middle asked for no second text"
    assert Simulation.objects.get().is_finished


def test_where_streaming_fails_the_page_uses_the_plain_endpoints_by_itself(
    server: Server, profession: Profession, page: Page
) -> None:
    def fail(route: Route) -> None:
        route.abort("connectionreset")

    page.route(re.compile(r"/stream(\?|$)"), fail)
    start_as_guest(page, server, profession.slug)
    play_on_plain_endpoints(page)
    assert Submission.objects.count() == 3


@pytest.mark.parametrize(
    ("place", "text"), [("an earlier run", "It is day 1."), ("the report", "Plant something this week")]
)
def test_where_streaming_fails_a_text_that_nobody_has_read_yet_is_written_for_a_guest(
    authored_server: Server, profession: Profession, page: Page, place: str, text: str
) -> None:
    guest = User.objects.create_guest()
    run = running.open_simulation(user=guest, profession=profession, language="en")
    path = f"/simulations/{run.pk}"
    if place == "the report":
        path += "/report"
        for task in iter(lambda: run.tasks.filter(submission=None).first(), None):
            Generation.objects.filter(pk=task.generation_id).update(status="completed", text="Read.")
            running.submit(user=guest, task_id=task.pk, answer="x")
    else:
        Simulation.objects.update(superseded_at=timezone.now())
    page.context.add_cookies([{"name": "sessionid", "value": session_of(guest), "url": authored_server.url}])
    page.route(re.compile(r"/stream(\?|$)"), lambda route: route.abort("connectionreset"))
    page.goto(authored_server.url + path)
    expect(page.locator("[data-report]:visible, [data-question]:visible")).to_contain_text(text)


def play_on_plain_endpoints(page: Page) -> None:
    for order in (1, 2, 3):
        expect(page.locator("[data-progress]")).to_contain_text(f"{order} of 3")
        expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
        page.fill("[data-answer]", f"answer {order}")
        page.click("[data-submit]")
        go_on(page)
    page.wait_for_url("**/report")
    expect(page.locator("[data-report]")).not_to_be_empty()


def test_without_javascript_a_simulation_can_be_read_and_answered(
    authored_server: Server, profession: Profession, browser: Browser
) -> None:
    with browser.new_context(java_script_enabled=False) as plain:
        page = plain.new_page()
        page.goto(authored_server.url)
        page.click("a[data-profession]")
        page.click("[data-start]")
        for order in (1, 2, 3):
            # The page reloads itself until the text is there.
            expect(page.locator("[data-question]")).to_contain_text(f"It is day {order}.", timeout=15_000)
            page.fill("[data-answer]", f"answer {order}\nin two lines")
            page.click("[data-submit]")
            go_on(page)
        page.wait_for_url("**/report")
        expect(page.locator("[data-report]")).to_contain_text("Plant something this week", timeout=15_000)
    answers = list(Submission.objects.order_by("pk").values_list("answer", flat=True))
    assert answers == [f"answer {order}\nin two lines" for order in (1, 2, 3)]


def test_stopping_keeps_what_was_written_and_it_can_be_written_again(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page
) -> None:
    provider.script(Behaviour(tokens=("Only ", "this ", "much."), hold_after=2), Behaviour(text="The whole text."))
    start_as_guest(page, server, profession.slug)
    page.click("[data-stop]")
    provider.wait_for(lambda fake: fake.requests[0].disconnected)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "cancelled")
    expect(page.locator("[data-question]")).to_have_text("Only this")
    page.click("[data-retry]")
    expect(page.locator("[data-question]")).to_have_text("The whole text.")


def test_a_fault_keeps_the_answer_and_offers_a_retry(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page
) -> None:
    Brief.objects.update(authored_text="")  # where there is nothing to show instead of a model's text
    start_as_guest(page, server, profession.slug)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    provider.default = Behaviour(ending=Ending.RESET, after_tokens=3)
    page.fill("[data-answer]", "an answer of weight")
    page.click("[data-submit]")
    go_on(page)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "failed")
    assert Submission.objects.get().answer == "an answer of weight"
    CandidateHealth.objects.all().delete()
    provider.default = Behaviour(text="Task two.")
    page.click("[data-retry] >> visible=true")
    expect(page.locator("[data-question]")).to_have_text("Task two.")
    expect(page.locator("[data-progress]")).to_contain_text("2 of 3")


def test_a_text_that_an_author_stands_in_for_says_so_live_and_after_a_reload(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page
) -> None:
    provider.default = Behaviour(ending=Ending.RESET, after_tokens=3)
    start_as_guest(page, server, profession.slug)
    for _ in ("live", "after a reload"):
        expect(page.locator("[data-question]")).to_contain_text("Amara asks about the roses in bed 1")
        expect(page.locator("[data-source]")).to_have_text(
            "Written by the authors: the language model is unavailable at the moment"
        )
        page.reload()


def test_hostile_text_of_a_model_stays_text(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page
) -> None:
    hostile = (
        "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\n\n"
        "[a](javascript:window.hacked=3) ![b](http://192.0.2.1/x.png) <a href='data:text/html,x'>c</a>\n\n"
        "<style>body{display:none}</style>\n\n**bo"
    )
    provider.default = Behaviour(text=hostile, tokens_per_second=200)
    start_as_guest(page, server, profession.slug)
    for _ in ("as it grew", "as the server renders it"):
        expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
        assert page.evaluate("window.hacked") is None
        question = page.locator("[data-question]")
        assert question.locator("script, img, style, [href^='javascript'], [href^='data']").count() == 0
        expect(page.locator("h1")).to_be_visible()
        page.reload()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_no_page_has_a_serious_barrier(
    server: Server, provider: FakeOpenAI, profession: Profession, page: Page, scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    provider.script(Behaviour(hold_after=4))
    barriers: list[str] = []

    def look(where: str) -> None:
        found = Axe().run(page).response["violations"]
        barriers.extend(f"{where}: {one['id']}" for one in found if one["impact"] in {"serious", "critical"})
        wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        barriers.extend([f"{where}: scrolls sideways"] if wide else [])

    start_as_guest(page, server, profession.slug)
    look("mid-stream")
    provider.release()
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    look("task")
    for path in (
        "/",
        "/professions/gardener",
        "/simulations",
        "/account",
        "/accounts/signup/",
        "/accounts/login/",
        "/nothing",
    ):
        page.goto(server.url + path)
        look(path)
    Brief.objects.update(authored_text="")
    provider.default = Behaviour(ending=Ending.HTML)
    page.goto(f"{server.url}/simulations/{Simulation.objects.get().pk}")
    page.fill("[data-answer]", "I look at the leaves, and ask Amara.")
    page.click("[data-submit]")
    page.wait_for_url("**/debrief")
    expect(page.locator("[data-debrief-page]")).to_have_attribute("data-status", "marked")
    look("debrief")
    page.click("[data-go-on]")
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "failed")
    look("error")
    assert barriers == []


def test_without_the_third_party_files_the_text_is_there_as_plain_text(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page
) -> None:
    page.route("**/static/vendor/**", lambda route: route.abort())
    provider.default = Behaviour(text="**Bold** words.")
    start_as_guest(page, server, profession.slug)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    expect(page.locator("[data-question]")).to_contain_text("Bold")
    page.fill("[data-answer]", "still works")
    page.click("[data-submit]")
    go_on(page)
    expect(page.locator("[data-progress]")).to_contain_text("2 of 3")
    assert Task.objects.count() == 2


@pytest.mark.parametrize("lost", ["task", "stream", "shown"])
def test_where_a_file_of_the_script_is_lost_on_the_way_a_link_leads_to_the_text(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page, lost: str
) -> None:
    page.route(re.compile(rf"/js/{lost}\.[^/]*js$"), lambda route: route.abort())
    page.goto(f"{server.url}/professions/{profession.slug}")
    page.click("[data-start]")
    link = page.locator("[data-unless-script] a")
    expect(link).not_to_be_visible()
    expect(link).to_be_visible()
    assert provider.requests == []
    link.click()
    provider.wait_for(lambda fake: len(fake.requests) == 1)
    wait_until(lambda: Task.objects.get().can_be_answered, what="the text is written")
    page.reload()
    expect(page.locator("[data-question]")).to_contain_text("You run the café")
    page.fill("[data-answer]", "still works")
    page.click("[data-submit]")
    go_on(page)
    expect(page.locator("[data-progress]")).to_contain_text("2 of 3")


def test_the_link_for_pages_whose_script_is_lost_goes_when_the_script_comes(
    server: Server, profession: Profession, page: Page
) -> None:
    start_as_guest(page, server, profession.slug)
    expect(page.locator("[data-unless-script]")).to_have_count(0)


def test_a_text_in_the_middle_of_a_server_restart_is_there_after_it(
    start_own_server: ServerStarter, transactional_db: None, profession: Profession, provider: FakeOpenAI, page: Page
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    provider.default = Behaviour(tokens_per_second=20)
    start_as_guest(page, server, profession.slug)
    server.stop()
    start_own_server(port=server.port, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready", timeout=40_000)


def test_on_a_phone_the_next_task_comes_into_view_and_stays_there_while_it_grows(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    provider.default = Behaviour(text="A long sentence about roses. " * 80)
    start_as_guest(page, server, profession.slug)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    provider.default = Behaviour(text="A long sentence about roses. " * 80, tokens_per_second=400)
    page.locator("[data-submit]").scroll_into_view_if_needed()
    page.fill("[data-answer]", "mulch")
    page.locator("[data-answer]").press("Control+Enter")
    go_on(page)
    expect(page.locator("[data-progress]")).to_contain_text("2 of 3")
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    expect(page.locator("h1")).to_be_in_viewport()


def test_the_page_of_an_earlier_run_shows_that_run_and_starts_nothing(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page
) -> None:
    provider.default = Behaviour(text="The earlier run's task.", hold_after=1)
    start_as_guest(page, server, profession.slug)
    earlier = page.url
    page.goto(f"{server.url}/professions/{profession.slug}")
    provider.default = Behaviour(text="The fresh run's task.")
    page.click("[data-start-again]")
    expect(page.locator("[data-question]")).to_have_text("The fresh run's task.")
    page.goto(earlier)
    provider.release()
    expect(page.locator("[data-question]")).to_have_text("The earlier run's task.")
    expect(page.locator("main")).to_contain_text("takes no more answers")
    assert len(provider.requests) == 2
