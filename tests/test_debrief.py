"""The debrief in a real browser: marks as they come, what they changed, and going on."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import Client as DjangoClient
from playwright.sync_api import Browser, Page, expect

from accounts.models import User
from generation.models import Generation
from professions.levels import Level
from professions.models import Profession
from tasks import assessing, running
from tasks.debrief import criteria_of, passages
from tasks.marking.rubric import RubricCriterion
from tasks.models import Assessment, Mark, Task
from tests.conftest import Server, ServerStarter, make_marked_profession
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.graders import marks
from tests.test_browser import start_as_guest
from tests.test_marking import ALL, ANSWER, ASKS, CAUSE, WHEN, grade
from tests.waiting import wait_until

FALLS = marks(CAUSE | {"level": 0}, ASKS, WHEN, next_time="Say a time.")


@pytest.fixture
def nursery(transactional_db: None) -> Profession:
    return make_marked_profession()


def hand_in(page: Page, server: Server, profession: Profession, answer: str = ANSWER) -> None:
    """Start as a guest, answer the first task and arrive at its debrief."""
    start_as_guest(page, server, profession.slug)
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    page.fill("[data-answer]", answer)
    page.click("[data-submit]")
    page.wait_for_url("**/debrief")


def test_marks_arrive_one_by_one_trust_falls_and_the_next_text_knows_it(
    server: Server, nursery: Profession, provider: FakeOpenAI, page: Page
) -> None:
    cut = [FALLS.index('{"criterion": "asks'), FALLS.index('{"criterion": "says')]
    pieces = (FALLS[: cut[0]], FALLS[cut[0] : cut[1]], FALLS[cut[1] :])
    provider.grader = Behaviour(tokens=pieces, hold_after=1)
    hand_in(page, server, nursery)
    expect(page.locator("[data-verdict]")).to_contain_text("It is being marked")
    expect(page.locator("[data-marked]")).to_have_count(1)
    expect(page.locator("[data-own-answer] mark")).to_have_text("it is mildew1")
    expect(page.locator("[data-criterion='asks-first'] [data-mark-waiting]")).to_be_visible()
    expect(page.locator("[data-total]")).to_be_hidden()
    provider.release()
    expect(page.locator("[data-marked]")).to_have_count(3)
    expect(page.locator("[data-own-answer] mark")).to_have_count(3)
    expect(page.locator("[data-points]")).to_have_text("4")
    expect(page.locator("[data-criterion='asks-first'] [data-mark-reason]")).to_have_text("You ask before you cut.")
    expect(page.locator("[data-changes-list] li")).to_have_text(
        re.compile(r"Amara's trust\s+45\s+\(-15\)\s*because nobody looked at the leaves")
    )
    expect(page.locator("[data-next-time]")).to_contain_text("Say a time.")
    shown = page.locator("main").inner_text()
    page.reload()
    assert page.locator("main").inner_text() == shown, "the debrief comes back as it was"
    following = Task.objects.get(order=2).generation_id
    wait_until(lambda: Generation.objects.get(pk=following).status == "completed", what="the next text")
    page.click("[data-go-on]")
    expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
    assert "Amara's trust: 45" in provider.requests[-1].last_user_message
    page.go_back()
    expect(page.locator("[data-marked]")).to_have_count(3)


def test_a_server_that_dies_in_the_middle_costs_no_debrief(
    start_own_server: ServerStarter, nursery: Profession, provider: FakeOpenAI, page: Page
) -> None:
    environment = {"OPENAI_API_KEY": "sk-test-0", "OPENAI_BASE_URL": provider.base_url}
    server = start_own_server(**environment)
    provider.grader = Behaviour(tokens=(ALL[:200], ALL[200:]), hold_after=1)
    hand_in(page, server, nursery)
    provider.wait_for(lambda fake: fake.markings[0].held)
    server.process.kill()
    server.process.wait()
    provider.grader = Behaviour(text=ALL)
    start_own_server(port=server.port, **environment)
    expect(page.locator("[data-points]")).to_have_text("6", timeout=60_000)
    expect(page.locator("[data-marked]")).to_have_count(3)
    assert Mark.objects.count() == 3


def test_without_javascript_the_debrief_looks_again_until_the_marks_are_there(
    server: Server, nursery: Profession, provider: FakeOpenAI, browser: Browser
) -> None:
    provider.grader = Behaviour(text=ALL, hold_after=0)
    with browser.new_context(java_script_enabled=False) as plain:
        page = plain.new_page()
        page.goto(f"{server.url}/professions/{nursery.slug}")
        page.click("[data-start]")
        expect(page.locator("[data-question]")).to_contain_text("café", timeout=15_000)
        page.fill("[data-answer]", ANSWER)
        page.click("[data-submit]")
        page.wait_for_url("**/debrief")
        expect(page.locator("[data-verdict]")).to_contain_text("It is being marked")
        provider.release()
        expect(page.locator("[data-marked]")).to_have_count(3, timeout=15_000)
        expect(page.locator("[data-own-answer] mark")).to_have_count(3)
        page.click("[data-review] summary")
        page.fill("[name=reason]", "I did say when.")
        page.click("[data-review] button")
        expect(page.locator("main")).to_contain_text("You have asked a person to look at this.")
        page.click("[data-go-on]")
        expect(page.locator("[data-progress]")).to_contain_text("2 of 2")


@pytest.mark.parametrize("has_script", [True, False])
def test_without_a_key_learners_mark_themselves_and_the_state_moves(
    authored_server: Server, nursery: Profession, browser: Browser, has_script: bool
) -> None:
    with browser.new_context(java_script_enabled=has_script, bypass_csp=True) as context:
        page = context.new_page()
        page.goto(f"{authored_server.url}/professions/{nursery.slug}")
        page.click("[data-start]")
        expect(page.locator("[data-question]")).to_contain_text("What do you tell her?", timeout=15_000)
        if has_script:
            expect(page.locator("[data-question]")).to_have_attribute("data-state", "ready")
        page.fill("[data-answer]", ANSWER)
        page.click("[data-submit]")
        page.wait_for_url("**/debrief")
        expect(page.locator("main")).to_contain_text("EXPERT 1: cut back a third")
        for slug, points in (("names-the-cause", 0), ("asks-first", 3), ("says-when", 1)):
            page.check(f"[name={slug}][value='{points}']")
        page.click("text=Keep these points")
        expect(page.locator("[data-verdict]")).to_have_text("Marked by yourself.")
        expect(page.locator("[data-points]")).to_have_text("4")
        expect(page.locator("[data-changes-list]")).to_contain_text("because nobody looked at the leaves")
    assert Assessment.objects.in_force().get().status == "self"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_no_state_of_the_debrief_has_a_serious_barrier(
    server: Server, nursery: Profession, provider: FakeOpenAI, page: Page, scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    barriers: list[str] = []

    def look(where: str) -> None:
        found = Axe().run(page).response["violations"]
        barriers.extend(f"{where}: {one['id']}" for one in found if one["impact"] in {"serious", "critical"})
        wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        barriers.extend([f"{where}: scrolls sideways"] if wide else [])

    provider.grader = Behaviour(tokens=(FALLS[:200], FALLS[200:]), hold_after=1)
    hand_in(page, server, nursery, answer=ANSWER + " unbrokenwordsthatgoonandonandon" * 4)
    expect(page.locator("[data-marked]")).to_have_count(1)
    look("while it is marked")
    provider.release()
    expect(page.locator("[data-debrief-page]")).to_have_attribute("data-status", "marked")
    look("marked")
    Assessment.objects.update(status="not_marked", because="unusable")
    page.reload()
    expect(page.locator("[name=says-when]")).to_have_count(3)
    look("to be marked by oneself")
    assert barriers == []


def test_marking_again_is_one_click(server: Server, nursery: Profession, provider: FakeOpenAI, page: Page) -> None:
    grade(provider, "I'd say eight of ten.")
    hand_in(page, server, nursery)
    expect(page.locator("[data-verdict]")).to_contain_text("could not be used, so there are none")
    grade(provider, ALL)
    page.click("[data-again] button")
    expect(page.locator("[data-points]")).to_have_text("6")


def test_the_expert_s_answer_and_the_levels_are_on_no_page_before_the_answer_is_handed_in(
    nursery: Profession, alice: User
) -> None:
    simulation = running.open_simulation(user=alice, profession=nursery, language="en")
    task = simulation.current_task
    browser = DjangoClient()
    browser.force_login(alice)
    assert browser.get(f"/tasks/{task.pk}/debrief").status_code == 302
    assert b"EXPERT" not in browser.get("/").content + browser.get(f"/professions/{nursery.slug}").content


def test_passages_may_overlap_and_touch() -> None:
    answer = "abcdefgh"
    levels = [Level(points=0, description="No."), Level(points=1, description="Yes.")]
    rubric = [
        RubricCriterion(slug=slug, title=slug, points=1, most_without_quotation=0, competency="", levels=levels)
        for slug in ("one", "two", "three")
    ]
    assessment = Assessment(rubric=rubric, status="marked")
    spans = {"one": (0, 4), "two": (2, 6), "three": (6, 8)}
    assessment.ordered_marks = [
        Mark(criterion=slug, points=1, start=start, end=end) for slug, (start, end) in spans.items()
    ]
    found = passages(answer, criteria_of(assessment))
    assert [(one.text, one.numbers) for one in found] == [("ab", "1"), ("cd", "1, 2"), ("ef", "2"), ("gh", "3")]
    assert "".join(one.text for one in passages(answer, [])) == answer


def test_an_answer_can_only_be_marked_by_oneself_with_points_of_its_levels(nursery: Profession, alice: User) -> None:
    simulation = running.open_simulation(user=alice, profession=nursery, language="en")
    task = simulation.current_task
    Generation.objects.filter(pk=task.generation_id).update(status="completed", text="Read.")
    running.submit(user=alice, task_id=task.pk, answer=ANSWER)
    assert assessing.in_force(alice, task.pk).because == "no_model"
    browser = DjangoClient()
    browser.force_login(alice)
    refused = browser.post(f"/tasks/{task.pk}/marks", {"names-the-cause": "1", "asks-first": "3", "says-when": "x"})
    assert refused.status_code == 409
    assert not Mark.objects.exists()
