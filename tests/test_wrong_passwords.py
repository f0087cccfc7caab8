"""Wrong passwords slow one account down, by whatever name, at every door, and whatever else the site is asked."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import httpx2
import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core.cache import cache
from django.db.models import F
from django.test import Client
from pytest_django import Settings

from accounts import attempts
from accounts.models import RateCount, User
from tests.conftest import SECRET_KEY, Server, ServerStarter
from tests.forms import FormClient
from tests.stores import Redis

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.usefixtures("static_files", "db")

PASSWORD = "correct horse battery"
REFUSED = re.compile(r"Too many failed login attempts\. Try again in (\d+) (second|minute)s?\.")


class CountingHasher(MD5PasswordHasher):
    hashed: ClassVar[list[str]] = []

    def encode(self, password: str, salt: str) -> str:
        self.hashed.append(password)
        return super().encode(password, salt)


@pytest.fixture
def quick_passwords(settings: Settings, alice: User, bob: User) -> None:
    settings.PASSWORD_HASHERS = ["tests.test_wrong_passwords.CountingHasher"]
    for user in (alice, bob):
        user.set_password(PASSWORD)
        user.save()


def log_in(login: str, password: str = PASSWORD, *, client: Client | None = None) -> "Response":
    return (client or Client()).post("/accounts/login/?next=/admin/", {"login": login, "password": password})


def guess(login: str, times: int = 5) -> None:
    for number in range(times):
        assert not REFUSED.search(log_in(login, f"wrong {number}").text)


def pass_time(time: timedelta) -> None:
    RateCount.objects.update(free_at=F("free_at") - time)


@pytest.mark.usefixtures("quick_passwords")
class TestLoggingIn:
    @pytest.mark.parametrize("guessed", ["alice", "ALICE", "alice@example.org"])
    @pytest.mark.parametrize("typed", ["alice", "Alice", "ALICE@example.org"])
    def test_five_wrong_passwords_slow_the_account_down_by_whatever_name(self, guessed: str, typed: str) -> None:
        guess(guessed)
        refused = log_in(typed)
        assert refused.status_code == 200
        said = REFUSED.search(refused.text)
        assert said is not None
        assert 0 < int(said[1]) <= 60
        assert said[2] == "second"

    def test_nobody_else_is_slowed_down(self) -> None:
        guess("alice")
        guess("nobody")
        assert log_in("bob").status_code == 302

    def test_the_pause_is_short_and_more_guesses_do_not_make_it_longer(self) -> None:
        guess("alice")
        for _ in range(50):
            assert REFUSED.search(log_in("alice", "wrong").text)
        pass_time(timedelta(minutes=1))
        assert log_in("alice").status_code == 302

    def test_after_the_pause_there_is_one_guess_a_minute(self) -> None:
        guess("alice")
        pass_time(timedelta(minutes=1))
        guess("alice", times=1)
        assert REFUSED.search(log_in("alice").text)

    def test_what_fills_or_empties_the_cache_forgets_no_guess(self) -> None:
        guess("alice")
        cache.clear()
        assert REFUSED.search(log_in("alice").text)

    def test_who_mistypes_and_then_knows_it_starts_afresh(self) -> None:
        for _ in range(3):
            guess("alice", times=4)
            assert log_in("alice").status_code == 302

    def test_a_new_password_can_be_used_at_once(self, alice: User) -> None:
        guess("alice")
        attempts.forget(alice)
        assert log_in("alice").status_code == 302

    def test_a_browser_that_was_logged_in_before_is_not_kept_out_by_guesses_made_elsewhere(self) -> None:
        hers = Client()
        log_in("alice", client=hers)
        hers.post("/accounts/logout/")
        guess("alice")
        assert REFUSED.search(log_in("alice").text), "another browser is"
        assert log_in("alice", client=hers).status_code == 302

    def test_in_such_a_browser_wrong_passwords_count_too_and_for_others_it_is_worth_nothing(self) -> None:
        hers = Client()
        log_in("alice", client=hers)
        hers.post("/accounts/logout/")
        for _ in range(5):
            assert not REFUSED.search(log_in("alice", "wrong", client=hers).text)
            assert not REFUSED.search(log_in("bob", "wrong", client=hers).text)
        assert REFUSED.search(log_in("alice", client=hers).text)
        assert REFUSED.search(log_in("bob").text)

    def test_a_device_cookie_that_somebody_made_is_none(self) -> None:
        forger = Client()
        forger.cookies["device"] = "WzEsImFiYyJd:1abcde:abc"
        guess("alice")
        assert REFUSED.search(log_in("alice", client=forger).text)

    def test_known_and_unknown_names_are_answered_alike_and_cost_as_much(self) -> None:
        stories = []
        for name in ("alice", "carol", "alice@example.org", "carol@example.org"):
            RateCount.objects.all().delete()
            story = []
            for _ in range(6):
                CountingHasher.hashed.clear()
                text = log_in(name, "wrong").text
                said = re.findall(r"<li>(.*?)</li>", re.sub(r"\d+ second", "n second", text))
                story.append((len(CountingHasher.hashed), bool(REFUSED.search(text)), said))
            stories.append(story)
        assert stories[0] == stories[1]
        assert stories[2] == stories[3]
        for story in stories:
            assert [(hashes, refused) for hashes, refused, _ in story] == [(2, False)] * 5 + [(0, True)]

    def test_guessing_for_many_accounts_from_one_address_ends_too(self) -> None:
        guess("learner-1", times=1)
        before = RateCount.objects.count()
        while attempts.NETWORK.take("127.0.0.1"):
            pass
        assert RateCount.objects.count() == before, "that address was counted"
        pass_time(-timedelta(minutes=1))  # not while this test waits for a hash
        assert REFUSED.search(log_in("alice").text)
        elsewhere = Client(REMOTE_ADDR="203.0.113.7")
        assert log_in("alice", client=elsewhere).status_code == 302

    def test_the_counters_hold_no_names(self) -> None:
        guess("a password typed for a name", times=1)
        assert not [row for row in RateCount.objects.all() if "password" in row.key]


@pytest.mark.usefixtures("quick_passwords")
class TestDoorsForPeopleLoggedIn:
    @pytest.fixture
    def as_alice(self, client: Client, alice: User) -> Client:
        client.force_login(alice)
        return client

    def confirm(self, client: Client, password: str) -> "Response":
        return client.post("/accounts/reauthenticate/", {"password": password})

    def change(self, client: Client, password: str) -> "Response":
        form = {"oldpassword": password, "password1": "a new one entirely", "password2": "a new one entirely"}
        return client.post("/accounts/password/change/", form)

    @pytest.mark.parametrize("door", ["confirm", "change"])
    def test_the_current_password_cannot_be_guessed(self, as_alice: Client, alice: User, door: str) -> None:
        for _ in range(5):
            assert not REFUSED.search(getattr(self, door)(as_alice, "wrong").text)
        for other in ("confirm", "change"):
            assert REFUSED.search(getattr(self, other)(as_alice, PASSWORD).text)
        assert REFUSED.search(log_in("alice").text)
        assert as_alice.get("/account").status_code == 200, "the session goes on"
        alice.refresh_from_db()
        assert alice.check_password(PASSWORD)

    @pytest.mark.parametrize("door", ["confirm", "change"])
    def test_the_right_one_is_taken(self, as_alice: Client, door: str) -> None:
        assert getattr(self, door)(as_alice, "wrong").status_code == 200
        assert getattr(self, door)(as_alice, PASSWORD).status_code == 302

    def test_the_admins_own_form_for_a_new_password_leads_to_the_sites(self, as_alice: Client) -> None:
        User.objects.update(is_staff=True)
        asked = as_alice.post("/admin/password_change/", {"old_password": PASSWORD})
        assert (asked.status_code, asked["Location"]) == (302, "/accounts/password/change/")


class TestTheAdminsDoor:
    @pytest.mark.parametrize("method", ["get", "post"])
    def test_it_is_the_sites_own(self, client: Client, method: str) -> None:
        led = getattr(client, method)("/admin/login/?next=/admin/accounts/user/")
        assert (led.status_code, led["Location"]) == (302, "/accounts/login/?next=%2Fadmin%2Faccounts%2Fuser%2F")

    def test_somebody_who_is_not_staff_is_told_so(self, client: Client, alice: User) -> None:
        client.force_login(alice)
        answer = client.get("/admin/", follow=True)
        assert answer.status_code == 403
        assert "alice" in answer.text
        assert "not one of the staff" in answer.text

    def test_a_guest_may_log_in_there(self, client: Client) -> None:
        client.force_login(User.objects.create_guest())
        assert client.get("/admin/", follow=True).redirect_chain[-1][0] == "/accounts/login/?next=%2Fadmin%2F"

    @pytest.mark.parametrize(
        ("wanted", "place"),
        [("", "/admin/"), ("?next=/admin/auth/group/", "/admin/auth/group/"), ("?next=//evil.example", "/admin/")],
    )
    def test_staff_who_are_logged_in_go_on(self, client: Client, alice: User, wanted: str, place: str) -> None:
        User.objects.update(is_staff=True)
        client.force_login(alice)
        led = client.get(f"/admin/login/{wanted}")
        assert (led.status_code, led["Location"]) == (302, place)


def log_in_over_http(server: Server, login: str, password: str) -> httpx2.Response:
    with FormClient(server.url) as browser:
        return browser.post("/accounts/login/", login=login, password=password)


def test_counting_goes_on_while_redis_is_down(
    start_own_server: ServerStarter, redis_server: Redis, alice: User, bob: User
) -> None:
    server = start_own_server(REDIS_URL=redis_server.url, SECRET_KEY=SECRET_KEY)
    redis_server.kill()
    for _ in range(5):
        assert not REFUSED.search(log_in_over_http(server, "alice", "wrong").text)
    assert REFUSED.search(log_in_over_http(server, "alice@example.org", PASSWORD).text)
    assert log_in_over_http(server, "bob", PASSWORD).status_code == 302
