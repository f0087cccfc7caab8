"""Ways to a new password: by mail over real SMTP, and by staff where the site sends none."""

import re
from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import User
from tests.conftest import Server, ServerStarter
from tests.forms import FormClient
from tests.mail_server import MailServer, mail_server
from tests.waiting import free_port

pytestmark = pytest.mark.usefixtures("static_files")

PASSWORD = "a new one entirely"
RESET = "/accounts/password/reset/"
LINK = re.compile(r"https?://\S+/accounts/password/reset/key/\S+")


def link_in(text: str) -> str:
    found = LINK.search(text)
    assert found is not None, text
    return found[0].removesuffix("</code></p>")


def set_password(browser: FormClient, path: str) -> int:
    form = browser.get(path).headers["location"]
    return browser.post(form, password1=PASSWORD, password2=PASSWORD).status_code


class TestByMail:
    @pytest.fixture
    def mails(self) -> Iterator[MailServer]:
        with mail_server() as server:
            yield server

    @pytest.fixture
    def site(self, start_own_server: ServerStarter, mails: MailServer) -> Server:
        return start_own_server(
            EMAIL_URL=mails.url,
            SITE_URL="http://try.example.org",
            ALLOWED_HOSTS="127.0.0.1,try.example.org,evil.example",
        )

    @pytest.mark.parametrize("host", ["127.0.0.1", "evil.example", "try.example.org:8"])
    def test_a_mail_comes_with_a_link_to_the_sites_own_address(
        self, site: Server, mails: MailServer, alice: User, host: str
    ) -> None:
        with FormClient(site.url) as browser:
            assert browser.post(RESET, headers={"Host": host}, email="alice@example.org").status_code == 302
            assert "We have sent you an e-mail" in browser.get(f"{RESET}done/").text
            (mail,) = mails.mails
            assert mail["to"] == "alice@example.org"
            text = mail.get_content()
            assert link_in(text).startswith("http://try.example.org/accounts/password/reset/key/")
            assert "127.0.0.1" not in text
            assert "evil.example" not in text
            path = link_in(text).removeprefix("http://try.example.org")
            assert set_password(browser, path) == 302
            assert "location" not in browser.get(path).headers, "it works once"
        alice.refresh_from_db()
        assert alice.check_password(PASSWORD)
        assert path.rpartition("-")[2] not in site.log

    def test_an_unknown_address_is_answered_alike(self, site: Server, mails: MailServer, alice: User) -> None:
        with FormClient(site.url) as browser:
            known = browser.post(RESET, email="alice@example.org")
            unknown = browser.post(RESET, headers={"Host": "evil.example"}, email="carol@example.org")
        assert (known.status_code, known.headers["location"]) == (unknown.status_code, unknown.headers["location"])
        assert [mail["to"] for mail in mails.mails] == ["alice@example.org", "carol@example.org"]
        assert "evil.example" not in mails.mails[1].get_content()

    def test_nobodys_letter_box_is_filled(self, site: Server, mails: MailServer, alice: User) -> None:
        with FormClient(site.url) as browser:
            for _ in range(5):
                assert browser.post(RESET, email="alice@example.org").status_code == 302
            assert "Try again in" in browser.post(RESET, email="ALICE@example.org").text
        assert len(mails.mails) == 5

    @pytest.mark.parametrize("address", ["alice@example.org", "carol@example.org"])
    def test_a_mail_that_is_not_taken_is_said_and_the_log_says_why(
        self, site: Server, mails: MailServer, alice: User, address: str
    ) -> None:
        mails.answer = "451 try later"
        with FormClient(site.url) as browser:
            led = browser.post(RESET, email=address)
            assert (led.status_code, led.headers["location"]) == (302, RESET)
            assert "The e-mail could not be sent." in browser.get(RESET).text
        assert "mail could not be sent, look at EMAIL_URL: SMTPDataError 451" in site.log
        assert address not in site.log


def test_a_mail_server_that_is_down_is_said_and_the_log_says_why(start_own_server: ServerStarter, alice: User) -> None:
    server = start_own_server(EMAIL_URL=f"smtp://127.0.0.1:{free_port()}")
    with FormClient(server.url) as browser:
        assert browser.post(RESET, email="alice@example.org").headers["location"] == RESET
        assert "The e-mail could not be sent." in browser.get(RESET).text
    assert "look at EMAIL_URL: ConnectionRefusedError" in server.log


@pytest.mark.django_db
class TestWithoutMail:
    def test_the_page_says_so_and_promises_nothing(self, client: Client, alice: User) -> None:
        answers = (client.get(RESET), client.post(RESET, {"email": "alice@example.org"}), client.get(f"{RESET}done/"))
        for answer in answers:
            assert answer.status_code == 200
            assert "This site sends no e-mail. Ask your teacher" in answer.text
            assert "We have sent" not in answer.text
            assert 'name="email"' not in answer.text

    def test_nor_is_a_confirmation_promised(self, client: Client, alice: User) -> None:
        client.force_login(alice)
        answer = client.post("/accounts/email/", {"email": "new@example.org", "action_add": ""}, follow=True)
        assert "so addresses are not confirmed" in answer.text
        assert "email sent" not in answer.text


def page(user: User) -> str:
    return reverse("admin:accounts_user_reset_link", args=[user.pk])


@pytest.mark.django_db
class TestByStaff:
    @pytest.fixture
    def staff(self, client: Client) -> User:
        """Somebody who may change people, and is no superuser."""
        staff = User.objects.create_user("staff", is_staff=True)
        staff.user_permissions.set(Permission.objects.filter(codename__in=["change_user", "view_user"]))
        client.force_login(staff)
        return staff

    def test_staff_make_a_link_that_is_shown_once_works_once_and_is_noted(
        self, client: Client, staff: User, alice: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        change = client.get(reverse("admin:accounts_user_change", args=[alice.pk]))
        assert page(alice) in change.text
        assert not LINK.search(client.get(page(alice)).text), "looking at the page makes none"
        assert not LogEntry.objects.exists()
        made = client.post(page(alice))
        assert "no-store" in made["Cache-Control"]
        link = link_in(made.text)
        assert link.startswith("http://127.0.0.1:8000/"), "as SITE_URL has it"
        entry = LogEntry.objects.get()
        assert (entry.user, entry.object_id, entry.change_message) == (
            staff,
            str(alice.pk),
            "Made a link for a new password.",
        )
        learner = Client()
        path = link.removeprefix("http://127.0.0.1:8000")
        form = learner.get(path)["Location"]
        assert learner.post(form, {"password1": PASSWORD, "password2": PASSWORD}).status_code == 302
        assert learner.get(path).status_code == 200, "it says that the link is used"
        alice.refresh_from_db()
        assert alice.check_password(PASSWORD)
        assert link not in caplog.text + entry.change_message

    @pytest.mark.parametrize("rights", ["superuser", "another permission"])
    def test_nobody_takes_over_somebody_with_more_rights(
        self, client: Client, staff: User, alice: User, rights: str
    ) -> None:
        if rights == "superuser":
            User.objects.filter(pk=alice.pk).update(is_superuser=True)
            staff.user_permissions.set(Permission.objects.all())
        else:
            alice.user_permissions.add(Permission.objects.get(codename="add_user"))
        before = User.objects.filter(pk=alice.pk).values().get()
        change = reverse("admin:accounts_user_change", args=[alice.pk])
        new_password = reverse("admin:auth_user_password_change", args=[alice.pk])
        for path in (page(alice), new_password):
            assert client.get(path).status_code == 403
            assert client.post(path, {"password1": PASSWORD, "password2": PASSWORD}).status_code == 403
        assert page(alice) not in client.get(change).text
        assert client.post(change, {"username": "alice", "email": "evil@example.org"}).status_code == 403
        assert User.objects.filter(pk=alice.pk).values().get() == before

    def test_nobody_gives_themselves_more_rights(self, client: Client, staff: User) -> None:
        form = {"username": "staff", "is_superuser": "on", "user_permissions": [1], "is_active": "on"}
        form |= {"date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
        assert client.post(reverse("admin:accounts_user_change", args=[staff.pk]), form).status_code == 302
        staff.refresh_from_db()
        assert not staff.is_superuser
        assert staff.user_permissions.count() == 2

    @pytest.mark.parametrize("who", ["a guest", "somebody disabled"])
    def test_who_cannot_log_in_gets_none(self, client: Client, staff: User, alice: User, who: str) -> None:
        user = User.objects.create_guest() if who == "a guest" else alice
        User.objects.filter(pk=alice.pk).update(is_active=False)
        assert not LINK.search(client.post(page(user)).text)
        assert not LogEntry.objects.exists()

    def test_a_learner_and_staff_without_the_permission_get_none(self, client: Client, alice: User, bob: User) -> None:
        client.force_login(alice)
        assert client.post(page(bob)).status_code == 302
        User.objects.filter(pk=alice.pk).update(is_staff=True)
        assert client.post(page(bob)).status_code == 403
