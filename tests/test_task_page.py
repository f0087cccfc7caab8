"""The page of a task: tables that can be read, an empty answer that is meant, honest progress, nothing that jumps."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from professions.loading import load_packs
from professions.models import Profession
from professions.packs import SHIPPED
from tasks.models import Submission
from tests.conftest import Server, make_marked_profession
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.test_browser import go_on, start_as_guest

# Cells of which some lies outside the box that their table stands in, and what is there to say so.
CUT_OFF = """() => [...document.querySelectorAll('[data-question] :is(table, pre)')].map((one) => {
    const box = one.closest('.table-scroll') ?? one;
    return {isCut: box.scrollWidth > box.clientWidth + 1, hint: box.dataset.hint ?? '',
        page: document.documentElement.scrollWidth > document.documentElement.clientWidth};
})"""


@pytest.fixture
def nurse(transactional_db: None) -> Profession:
    load_packs([SHIPPED / "nurse.yaml"])
    return Profession.objects.get(slug="nurse")


@pytest.mark.parametrize("width", [1440, 1024, 768])
def test_a_table_of_seven_columns_fits_by_wrapping(
    authored_server: Server, nurse: Profession, page: Page, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    start_as_guest(page, authored_server, nurse.slug)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    (table,) = page.evaluate(CUT_OFF)
    assert not table["isCut"]


@pytest.mark.parametrize("width", [390, 320])
def test_what_is_too_wide_for_a_phone_says_that_it_scrolls_also_while_it_streams(
    server: Server, profession: Profession, provider: FakeOpenAI, page: Page, width: int
) -> None:
    head = "| " + " | ".join(f"Measurement{number}" for number in range(8)) + " |\n|" + "---|" * 8 + "\n"
    rows = ("| " + " | ".join("unbreakable" for _ in range(8)) + " |\n") * 3
    log = "\n```\n" + "2026-08-13T10:40:00Z ward-monitor[12]: " * 4 + "\n```\n"
    text = f"It is day 1.\n\n{head}{rows}\n{log}\n"
    provider.default = Behaviour(tokens=(text, "\nWhat now?"), hold_after=1)
    page.set_viewport_size({"width": width, "height": 800})
    start_as_guest(page, server, profession.slug)
    for state in ("writing", "ready"):
        expect(page.locator("[data-question]")).to_have_attribute("data-state", state)
        expect(page.locator("[data-question] :is(.table-scroll, pre)[data-hint]")).to_have_count(2)
        boxes = page.evaluate(CUT_OFF)
        assert [(one["isCut"], one["hint"]) for one in boxes] == [(True, "Scroll sideways to see all of it.")] * 2
        assert not any(one["page"] for one in boxes), "the page itself does not scroll sideways"
        provider.release()


def test_an_answer_of_nothing_is_handed_in_when_it_is_meant(
    authored_server: Server, profession: Profession, page: Page
) -> None:
    start_as_guest(page, authored_server, profession.slug)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    page.fill("[data-answer]", " \u200b\u2060\n")
    page.click("[data-submit]")
    expect(page.locator("[data-note]")).to_contain_text("nothing to read in your answer")
    assert not Submission.objects.exists()
    page.fill("[data-answer]", "\ufeff")
    page.click("[data-submit]")
    expect(page.locator("[data-note]")).to_contain_text("nothing to read in your answer")
    assert not Submission.objects.exists(), "another answer is asked about anew"
    page.click("[data-submit]")
    page.wait_for_url("**/debrief")
    expect(page.locator("[data-verdict]")).to_contain_text("You handed in an empty answer")


def test_without_javascript_an_answer_of_nothing_is_asked_about_too(
    authored_server: Server, profession: Profession, browser: Browser
) -> None:
    with browser.new_context(java_script_enabled=False) as plain:
        page = plain.new_page()
        page.goto(f"{authored_server.url}/professions/{profession.slug}")
        page.click("[data-start]")
        expect(page.locator("[data-question]")).to_contain_text("It is day 1.", timeout=15_000)
        page.fill("[data-answer]", " \u200b")
        page.click("[data-submit]")
        expect(page.locator("[data-note]")).to_contain_text("nothing to read in your answer")
        assert not Submission.objects.exists()
        page.click("[data-hand-in-empty]")
        page.wait_for_url("**/debrief")
    assert Submission.objects.get().answer == " \u200b"


def test_progress_is_not_whole_while_a_task_is_open(
    authored_server: Server, profession: Profession, page: Page
) -> None:
    start_as_guest(page, authored_server, profession.slug)
    for finished in (0, 1, 2):
        expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
        bar = page.locator(".bar progress")
        assert bar.evaluate("(bar) => [bar.value, bar.max]") == [finished, 3]
        page.fill("[data-answer]", "I look at the leaves.")
        page.click("[data-submit]")
        go_on(page)
    page.wait_for_url("**/report")


@pytest.mark.parametrize("width", [1440, 390])
def test_the_bar_is_as_high_before_the_script_as_behind_it(
    authored_server: Server, profession: Profession, page: Page, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    start_as_guest(page, authored_server, profession.slug)
    expect(page.locator("[data-clock-toggle]")).to_be_visible()
    with_script = page.locator(".bar").bounding_box()
    page.locator("[data-clock-toggle]").evaluate("(toggle) => { toggle.hidden = true; }")
    without = page.locator(".bar").bounding_box()
    assert with_script is not None
    assert without is not None
    assert with_script["height"] == without["height"]


def test_the_page_shows_the_state_with_what_changed_it_and_an_aim_for_length(
    authored_server: Server, transactional_db: None, page: Page
) -> None:
    nursery = make_marked_profession()
    nursery.briefs.update(aim_words=140)
    start_as_guest(page, authored_server, nursery.slug)
    expect(page.locator("[data-state-values]")).to_contain_text(re.compile(r"Amara's trust\s+60"))
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    page.fill("[data-answer]", "Two words")
    expect(page.locator("[data-counter]")).to_have_text("Words: 2. About 140 will do.")
    page.fill("[data-answer]", "")
    page.click("[data-submit]")
    page.click("[data-submit]")
    go_on(page)
    expect(page.locator("[data-state-values]")).to_contain_text(
        re.compile(r"Amara's trust\s+45 \(-15\)\s+because nobody looked at the leaves")
    )
