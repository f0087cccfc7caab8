"""The pages of the account, the log-in and the second factor in a real browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from accounts.models import User
from tests.conftest import Server
from tests.test_second_factor import PASSWORD, code


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_setting_up_and_using_a_second_factor_has_no_serious_barrier(
    authored_server: Server, alice: User, page: Page, scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    url, barriers = authored_server.url, list[str]()

    def look(where: str) -> None:
        found = Axe().run(page).response["violations"]
        barriers.extend(f"{where}: {one['id']}" for one in found if one["impact"] in {"serious", "critical"})
        wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        barriers.extend([f"{where}: scrolls sideways"] if wide else [])

    def follow(link: Locator) -> None:
        # A look before the next page is there would look at the last one, or at none.
        with page.expect_navigation():
            link.click()

    def press(name: str) -> None:
        follow(page.locator("main").get_by_role("button", name=name, exact=True))

    def log_in() -> None:
        page.goto(f"{url}/accounts/login/?next=/account")
        page.fill("[name=login]", "alice")
        page.fill("[name=password]", PASSWORD)
        follow(page.locator("main form button[type=submit]"))

    page.goto(f"{url}/accounts/password/reset/")
    look("forgotten password")
    log_in()
    look("account")
    follow(page.get_by_role("link", name="Set up a second factor"))
    look("second factor off")
    follow(page.get_by_role("link", name="Set up an app"))
    look("confirm")
    page.fill("[name=password]", PASSWORD)
    follow(page.locator("main form button[type=submit]").first)
    expect(page.locator("img.qr")).to_be_visible()
    assert page.evaluate("document.querySelector('img.qr').naturalWidth") > 0, "the policy lets the picture be shown"
    look("set up")
    secret = page.input_value("#authenticator_secret")
    page.fill("[name=code]", "000000")
    press("Turn on")
    look("wrong code")
    secret = page.input_value("#authenticator_secret")
    page.fill("[name=code]", code(secret))
    press("Turn on")
    expect(page.locator(".recovery-codes li")).to_have_count(10)
    look("recovery codes")
    recovery = page.locator(".recovery-codes li").first.inner_text()
    page.reload()
    expect(page.locator(".recovery-codes")).to_have_count(0)
    look("recovery codes again")
    for path in ("", "totp/deactivate/", "recovery-codes/generate/"):
        page.goto(f"{url}/accounts/2fa/{path}")
        look(f"second factor {path.strip('/').replace('/', ' ')}")
    page.goto(f"{url}/admin/")
    look("not staff")
    press("Log out")
    expect(page).to_have_url(f"{url}/")
    log_in()
    look("code")
    page.fill("[name=code]", recovery)
    press("Log in")
    expect(page).to_have_url(f"{url}/account")
    assert barriers == []
