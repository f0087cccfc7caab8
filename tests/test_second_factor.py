"""The second factor: set up, asked for, used once, slowed down, required of staff, lost."""

import base64
import hashlib
import hmac
import re
import struct
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db.models import F
from django.test import Client
from pytest_django import Settings

from accounts.models import RateCount, User
from accounts.tokens import create_token
from professions.models import Profession
from tasks.models import Simulation
from tests.conftest import SECRET_KEY, ServerStarter
from tests.forms import FormClient
from tests.stores import Redis

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = [
    pytest.mark.usefixtures("static_files", "no_code_is_used_yet"),
    pytest.mark.django_db(transaction=True),  # a second factor that is set up is told of when it is committed
]

PASSWORD = "correct horse battery"
SECRET = base64.b32encode(b"20 bytes of a secret").decode()
REFUSED = re.compile(r"Too many attempts\. Try again in (\d+) minutes?\.")
ACTIVATE, RECOVERY = "/accounts/2fa/totp/activate/", "/accounts/2fa/recovery-codes/"


@pytest.fixture
def no_code_is_used_yet() -> None:
    cache.clear()


def code(secret: str = SECRET, *, later: int = 0) -> str:
    """Return what an app shows now, or so many half minutes later (RFC 6238)."""
    counter = struct.pack(">Q", int(time.time()) // 30 + later)
    digest = hmac.digest(base64.b32decode(secret), counter, hashlib.sha1)
    start = digest[-1] & 0xF
    number = struct.unpack(">I", digest[start : start + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


def wrong_code(number: int) -> str:
    right = {code(later=later) for later in (-2, -1, 0, 1, 2)}
    return next(f"{guess:06}" for guess in range(number * 10, 1_000_000) if f"{guess:06}" not in right)


def set_up(user: User) -> None:
    """Store the app of SECRET and recovery codes for somebody."""
    # The adapter encrypts without a request.
    TOTP.activate(user, SECRET)
    RecoveryCodes.activate(user)


def recovery_codes(user: User) -> list[str]:
    wrapped = Authenticator.objects.get(user=user, type="recovery_codes").wrap()
    codes: list[str] = wrapped.get_unused_codes()
    return codes


def log_in(client: Client, login: str = "alice", then: str = "/account") -> "Response":
    return client.post(f"/accounts/login/?next={then}", {"login": login, "password": PASSWORD})


def show(client: Client, shown: str) -> "Response":
    return client.post("/accounts/2fa/authenticate/", {"code": shown})


def is_logged_in(client: Client) -> bool:
    return client.get("/account").status_code == 200


def pass_time(passed: timedelta) -> None:
    RateCount.objects.update(free_at=F("free_at") - passed)


class TestSettingUp:
    def test_an_app_is_set_up_and_asked_for_from_then_on(self, client: Client, alice: User) -> None:
        log_in(client)
        assert client.get("/accounts/2fa/").status_code == 200
        led = client.get(ACTIVATE)
        assert led["Location"].startswith("/accounts/reauthenticate/"), "who finds a session open cannot set one up"
        assert client.post(led["Location"], {"password": PASSWORD})["Location"] == ACTIVATE
        page = client.get(ACTIVATE)
        assert 'src="data:image/svg+xml;base64,' in page.text
        secret = re.search(r'value="([A-Z2-7]{32})"', page.text)
        assert secret is not None
        assert client.post(ACTIVATE, {"code": wrong_code(1)}).status_code == 200
        done = client.post(ACTIVATE, {"code": code(secret[1])})
        assert (done.status_code, done["Location"]) == (302, RECOVERY)
        codes = recovery_codes(alice)
        assert len(codes) == 10
        shown, shown_again = client.get(RECOVERY).text, client.get(RECOVERY).text
        assert all(one in shown for one in codes)
        assert not any(one in shown_again for one in codes)
        assert client.get(f"{RECOVERY}download/").status_code == 403

        elsewhere = Client()
        asked = log_in(elsewhere)
        assert (asked.status_code, asked["Location"]) == (302, "/accounts/2fa/authenticate/")
        assert not is_logged_in(elsewhere)
        assert show(elsewhere, code(secret[1])).status_code == 200, "the code that set it up is used"
        entered = show(elsewhere, code(secret[1], later=1))
        assert (entered.status_code, entered["Location"]) == (302, "/account")
        assert is_logged_in(elsewhere)

    def test_secrets_are_stored_encrypted(self, alice: User) -> None:
        set_up(alice)
        stored = str(list(Authenticator.objects.values_list("data", flat=True)))
        assert SECRET not in stored
        assert not any(one in stored for one in recovery_codes(alice))

    @pytest.mark.parametrize("path", ["/accounts/2fa/", ACTIVATE])
    def test_a_guest_signs_up_first(self, client: Client, path: str) -> None:
        client.force_login(User.objects.create_guest())
        for answer in (client.get(path), client.post(path, {"code": "1"})):
            assert (answer.status_code, answer["Location"]) == (302, "/accounts/signup/")

    def test_a_session_that_never_showed_it_cannot_take_it_away(self, client: Client, alice: User) -> None:
        set_up(alice)
        client.force_login(alice)
        for path in ("/accounts/2fa/totp/deactivate/", RECOVERY, f"{RECOVERY}generate/"):
            led = client.post(path)
            assert led["Location"].startswith("/accounts/2fa/reauthenticate/"), path
        assert Authenticator.objects.count() == 2

    def test_taking_it_away_needs_the_password_once_more(self, client: Client, alice: User) -> None:
        set_up(alice)
        log_in(client)
        show(client, code())
        led = client.post("/accounts/2fa/totp/deactivate/")
        assert led["Location"].startswith("/accounts/reauthenticate/")
        client.post(led["Location"], {"password": PASSWORD})
        assert not Authenticator.objects.exists(), "with its recovery codes"


@pytest.mark.usefixtures("with_app")
class TestLoggingIn:
    @pytest.fixture
    def with_app(self, alice: User) -> None:
        set_up(alice)

    def test_a_code_is_taken_once_whatever_the_cache_forgets(self, client: Client) -> None:
        log_in(client)
        used = code()
        assert show(client, used).status_code == 302
        cache.clear()
        elsewhere = Client()
        log_in(elsewhere)
        for form_of_it in (used, f" {used[:3]} {used[3:]} ", f"{used[:3]}-{used[3:]}"):
            assert show(elsewhere, form_of_it).status_code == 200
        assert not is_logged_in(elsewhere)
        assert show(elsewhere, code(later=1)).status_code == 302

    def test_a_recovery_code_is_taken_once(self, client: Client, alice: User) -> None:
        one = recovery_codes(alice)[0]
        log_in(client)
        assert show(client, one).status_code == 302
        elsewhere = Client()
        log_in(elsewhere)
        assert show(elsewhere, one).status_code == 200
        assert not is_logged_in(elsewhere)

    def test_six_wrong_codes_slow_the_account_down_and_the_right_password_does_not_help(self, client: Client) -> None:
        log_in(client)
        for number in range(5):
            assert not REFUSED.search(show(client, wrong_code(number)).text)
        said = REFUSED.search(show(client, code()).text)
        assert said is not None
        assert int(said[1]) <= 5
        elsewhere = Client()
        assert log_in(elsewhere).status_code == 302
        assert REFUSED.search(show(elsewhere, code()).text)
        pass_time(timedelta(minutes=5))
        assert show(elsewhere, code()).status_code == 302

    def test_a_code_of_somebody_elses_app_is_wrong(self, client: Client, bob: User) -> None:
        TOTP.activate(bob, base64.b32encode(b"another 20 b. secret").decode())
        log_in(client, "bob")
        assert show(client, code()).status_code == 200
        assert not is_logged_in(client)

    def test_without_the_password_no_code_is_asked_for(self, client: Client) -> None:
        asked = show(client, code())
        assert (asked.status_code, asked["Location"]) == (302, "/accounts/login/")

    def test_a_guest_who_logs_in_with_it_keeps_what_was_done(
        self, client: Client, alice: User, profession: Profession
    ) -> None:
        client.post(f"/professions/{profession.slug}/start")
        simulation = Simulation.objects.get()
        log_in(client)
        assert client.get("/accounts/2fa/authenticate/").status_code == 200
        assert show(client, wrong_code(1)).status_code == 200
        simulation.refresh_from_db()
        assert simulation.user.is_guest, "not before the code is right"
        assert show(client, code()).status_code == 302
        simulation.refresh_from_db()
        assert simulation.user == alice

    def test_one_stored_under_another_key_is_refused_and_the_log_says_what_to_do(
        self, client: Client, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.SECRET_KEY = "another key " * 5
        log_in(client)
        assert show(client, code()).status_code == 200
        assert "remove_second_factor" in caplog.text

    def test_a_key_that_is_being_replaced_still_opens_it(self, client: Client, settings: Settings) -> None:
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "another key " * 5
        log_in(client)
        assert show(client, code()).status_code == 302


@pytest.fixture
def staff(alice: User) -> User:
    alice.is_staff = True
    alice.save()
    alice.user_permissions.set(Permission.objects.filter(content_type__app_label__in=["professions", "accounts"]))
    return alice


class TestRequiredOfStaff:
    @pytest.fixture(autouse=True)
    def require(self, settings: Settings) -> None:
        settings.REQUIRE_STAFF_MFA = True

    def ask_apis(self, client: Client, **headers: str) -> list["Response"]:
        return [
            client.post("/api/variants/stream", {"brief_id": 1}, content_type="application/json", headers=headers),
            client.get("/admin/api/chat/stream?question=x", headers=headers),
        ]

    def test_staff_are_led_to_set_one_up_and_then_let_in(self, client: Client, staff: User) -> None:
        log_in(client)
        answer = client.get("/admin/accounts/user/", follow=True)
        assert answer.redirect_chain[-1][0].startswith("/accounts/reauthenticate/")
        assert "staff with a second factor" in answer.text
        client.post(answer.redirect_chain[-1][0], {"password": PASSWORD})
        secret = re.search(r'value="([A-Z2-7]{32})"', client.get(ACTIVATE).text)
        assert secret is not None
        client.post(ACTIVATE, {"code": code(secret[1])})
        assert client.get("/admin/accounts/user/").status_code == 200

    def test_apis_of_the_staff_answer_403_in_json(self, client: Client, staff: User) -> None:
        log_in(client)
        for answer in self.ask_apis(client):
            assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
            assert set(answer.json()) == {"code", "detail", "message"}
        assert client.get("/api/simulations").status_code == 200, "what learners do they may do"

    def test_a_session_from_before_counts_once_it_has_shown_it(self, client: Client, staff: User) -> None:
        client.force_login(staff)
        set_up(staff)
        led = client.get("/admin/accounts/user/", follow=True)
        assert led.redirect_chain[-1][0].startswith("/accounts/2fa/reauthenticate/")
        assert all(answer.status_code == 403 for answer in self.ask_apis(client))
        assert client.post(led.redirect_chain[-1][0], {"code": wrong_code(1)}).status_code == 200
        assert client.get("/admin/").status_code == 302
        shown = client.post(led.redirect_chain[-1][0], {"code": code()})
        assert (shown.status_code, shown["Location"]) == (302, "/admin/accounts/user/")
        assert client.get("/admin/accounts/user/").status_code == 200
        assert [answer.status_code for answer in self.ask_apis(client)] == [404, 404], "there is no such brief"

    def test_a_password_alone_is_not_enough_to_get_round_it(self, client: Client, staff: User) -> None:
        client.force_login(staff)
        set_up(staff)
        client.post("/accounts/reauthenticate/", {"password": PASSWORD})
        for path in ("/accounts/2fa/totp/deactivate/", ACTIVATE, f"{RECOVERY}generate/"):
            client.post(path, {"code": code()})
        assert Authenticator.objects.filter(type="totp").count() == 1
        assert client.get("/admin/").status_code == 302

    def test_logging_in_with_it_leads_straight_into_the_administration(self, client: Client, staff: User) -> None:
        set_up(staff)
        log_in(client, then="/admin/accounts/user/")
        assert show(client, code())["Location"] == "/admin/accounts/user/"
        assert client.get("/admin/accounts/user/").status_code == 200

    def test_a_guest_who_turns_out_to_be_staff_is_asked_once(
        self, client: Client, staff: User, profession: Profession
    ) -> None:
        set_up(staff)
        client.post(f"/professions/{profession.slug}/start")
        log_in(client, then="/admin/")
        assert show(client, code())["Location"] == "/admin/"
        assert client.get("/admin/").status_code == 200

    def test_a_session_counts_no_more_when_its_second_factor_is_removed(self, client: Client, staff: User) -> None:
        set_up(staff)
        log_in(client)
        show(client, code())
        assert client.get("/admin/").status_code == 200
        call_command("remove_second_factor", "alice")
        assert client.get("/admin/").status_code == 302
        set_up(staff)
        assert client.get("/admin/").status_code == 302

    def test_a_token_opens_what_learners_do_and_nothing_of_the_staff(self, client: Client, staff: User) -> None:
        set_up(staff)
        token = f"Bearer {create_token(staff)}"
        for answer in self.ask_apis(client, Authorization=token):
            assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
        assert client.get("/api/simulations", headers={"Authorization": token}).status_code == 200

    def test_learners_need_none(self, client: Client, bob: User) -> None:
        assert log_in(client, "bob").status_code == 302
        assert is_logged_in(client)
        assert [answer.status_code for answer in self.ask_apis(client)] == [403, 404]


def test_where_it_is_not_required_staff_are_let_in_without(client: Client, staff: User) -> None:
    log_in(client)
    assert client.get("/admin/").status_code == 200


class TestLost:
    def test_the_command_removes_it_and_says_when_there_is_none(
        self, client: Client, alice: User, capsys: pytest.CaptureFixture[str]
    ) -> None:
        set_up(alice)
        call_command("remove_second_factor", "alice")
        assert "second factor of alice is removed" in capsys.readouterr().out
        assert not Authenticator.objects.exists()
        log_in(client)
        assert is_logged_in(client)
        with pytest.raises(CommandError, match="has no second factor"):
            call_command("remove_second_factor", "alice")
        with pytest.raises(CommandError, match="nobody of the name"):
            call_command("remove_second_factor", "carol")

    @pytest.mark.parametrize("is_superuser", [True, False])
    def test_a_superuser_removes_it_in_the_admin_and_it_is_logged(
        self, client: Client, staff: User, bob: User, is_superuser: bool
    ) -> None:
        User.objects.filter(pk=staff.pk).update(is_superuser=is_superuser)
        set_up(bob)
        client.force_login(staff)
        client.post("/admin/accounts/user/", {"action": "remove_second_factor", "_selected_action": [bob.pk]})
        assert Authenticator.objects.exists() != is_superuser
        entries = [(entry.user, entry.object_id, entry.change_message) for entry in LogEntry.objects.all()]
        assert entries == ([(staff, str(bob.pk), "Removed the second factor.")] if is_superuser else [])

    def test_nobody_reads_or_writes_secrets_in_the_admin(self, client: Client, alice: User) -> None:
        User.objects.update(is_staff=True, is_superuser=True)
        client.force_login(alice)
        assert client.get("/admin/mfa/authenticator/").status_code == 404


def test_the_second_factor_and_its_limit_work_on_a_server_whose_redis_is_down(
    start_own_server: ServerStarter, redis_server: Redis, alice: User
) -> None:
    server = start_own_server(REDIS_URL=redis_server.url, SECRET_KEY=SECRET_KEY, REQUIRE_STAFF_MFA="on")
    redis_server.kill()
    User.objects.update(is_staff=True, is_superuser=True)
    with FormClient(server.url) as browser, FormClient(server.url) as other, FormClient(server.url) as third:
        assert browser.post("/accounts/login/", login="alice", password=PASSWORD).status_code == 302
        assert browser.get("/admin/").status_code == 302
        browser.post("/accounts/reauthenticate/", password=PASSWORD)
        secret = re.search(r'value="([A-Z2-7]{32})"', browser.get(ACTIVATE).text)
        assert secret is not None
        assert browser.post(ACTIVATE, code=code(secret[1])).status_code == 302
        assert browser.get("/admin/").status_code == 200

        assert other.post("/accounts/login/", login="alice", password=PASSWORD).status_code == 302
        for number in range(4):
            assert not REFUSED.search(other.post("/accounts/2fa/authenticate/", code=f"00000{number}").text)
        assert other.post("/accounts/2fa/authenticate/", code=code(secret[1], later=1)).status_code == 302
        assert other.get("/admin/").status_code == 200

        third.post("/accounts/login/", login="alice", password=PASSWORD)
        for number in range(5):
            assert not REFUSED.search(third.post("/accounts/2fa/authenticate/", code=f"00000{number}").text)
        assert REFUSED.search(third.post("/accounts/2fa/authenticate/", code=code(secret[1], later=1)).text)
        assert browser.get("/admin/").status_code == 200, "a session that is logged in goes on"
