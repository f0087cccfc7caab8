"""People: guests, signing up, logging in, and tokens."""

import re
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from allauth.account.forms import EmailAwarePasswordResetTokenGenerator
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from django.contrib.auth.hashers import make_password
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken
from pytest_django import Settings

from accounts.models import User
from accounts.tokens import create_token
from professions.models import Profession
from tasks.models import Simulation
from tests.conftest import make_profession

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.usefixtures("static_files", "db", "nobody_is_slowed_down_yet")

PASSWORD = "correct horse battery"
NEW_PASSWORD = "staple wrong donkey"
TOKEN_TEXT = re.compile(r"\b[0-9a-f]{64}\b")


@pytest.fixture
def nobody_is_slowed_down_yet() -> None:
    cache.clear()


def start(client: Client, profession: Profession) -> Simulation:
    entered = client.post(f"/professions/{profession.slug}/start")
    assert entered.status_code == 302, entered.text
    return Simulation.objects.get(pk=int(entered["Location"].removeprefix("/simulations/")))


def log_in(client: Client, login: str, password: str = PASSWORD) -> "Response":
    return client.post("/accounts/login/", {"login": login, "password": password})


def sign_up(client: Client, username: str, **more: str) -> "Response":
    form = {"username": username, "password1": PASSWORD, "password2": PASSWORD} | more
    return client.post("/accounts/signup/", form)


def user_of(client: Client) -> User | None:
    return User.objects.filter(pk=client.session.get("_auth_user_id", 0)).first()


def test_starting_a_profession_without_an_account_makes_a_guest(client: Client, profession: Profession) -> None:
    simulation = start(client, profession)
    guest = User.objects.get()
    assert (simulation.user, simulation.profession) == (guest, profession)
    assert guest.is_guest
    assert not guest.has_usable_password()
    assert user_of(client) == guest
    assert start(client, profession) == simulation, "the second click finds the same simulation and the same guest"
    assert User.objects.count() == 1


def test_looking_at_pages_makes_no_guest(client: Client, profession: Profession) -> None:
    for path in ("/", f"/professions/{profession.slug}", "/accounts/login/", "/accounts/signup/"):
        assert client.get(path).status_code == 200
    assert client.get(f"/professions/{profession.slug}/start").status_code == 405
    assert not User.objects.exists()


def test_two_guests_do_not_see_each_other(client: Client, profession: Profession) -> None:
    simulation = start(client, profession)
    other = Client()
    start(other, profession)
    assert User.objects.filter(is_guest=True).count() == 2
    assert other.get(f"/simulations/{simulation.pk}").status_code == 404


def test_where_guests_are_not_allowed_starting_leads_to_the_log_in(
    client: Client, profession: Profession, alice: User, settings: Settings
) -> None:
    settings.ALLOW_GUESTS = False
    refused = client.post("/professions/gardener/start")
    assert (refused.status_code, refused["Location"]) == (302, "/accounts/login/?next=/professions/gardener")
    assert list(User.objects.all()) == [alice]
    entered = client.post(refused["Location"], {"login": "alice", "password": PASSWORD})
    assert (entered.status_code, entered["Location"]) == (302, "/professions/gardener")
    assert start(client, profession).user == alice


def test_a_guest_who_signs_up_stays_the_same_person_with_everything_done(
    client: Client, profession: Profession
) -> None:
    simulation = start(client, profession)
    guest = simulation.user
    signed_up = sign_up(client, "carol", email="carol@example.org")
    assert (signed_up.status_code, signed_up["Location"]) == (302, "/simulations")
    carol = User.objects.get()
    assert (carol.pk, carol.username, carol.email, carol.is_guest) == (guest.pk, "carol", "carol@example.org", False)
    assert user_of(client) == carol
    assert list(carol.simulations.all()) == [simulation]
    elsewhere = Client()
    assert log_in(elsewhere, "carol").status_code == 302
    assert user_of(elsewhere) == carol


def test_a_refused_sign_up_leaves_the_guest_a_guest(client: Client, profession: Profession, alice: User) -> None:
    guest = start(client, profession).user
    assert sign_up(client, "alice").status_code == 200
    assert sign_up(client, "carol", password2="something else entirely").status_code == 200
    assert sign_up(client, "carol", password1="short", password2="short").status_code == 200
    guest.refresh_from_db()
    assert guest.is_guest
    assert guest.username.startswith("guest-")
    assert user_of(client) == guest


def test_signing_up_without_being_a_guest_makes_one_account(client: Client) -> None:
    assert sign_up(client, "carol").status_code == 302
    carol = User.objects.get()
    assert user_of(client) == carol
    assert (carol.username, carol.is_guest, carol.is_staff, carol.is_superuser) == ("carol", False, False, False)


def test_more_fields_in_the_sign_up_change_nothing(client: Client) -> None:
    sign_up(client, "mallory", is_staff="on", is_superuser="on", is_guest="on", pk="1")
    mallory = User.objects.get()
    assert (mallory.is_guest, mallory.is_staff, mallory.is_superuser) == (False, False, False)


def test_a_guest_who_logs_in_hands_the_simulations_over(client: Client, profession: Profession, alice: User) -> None:
    simulation = start(client, profession)
    guest = simulation.user
    assert log_in(client, "alice").status_code == 302
    assert user_of(client) == alice
    simulation.refresh_from_db()
    assert (simulation.user, simulation.is_current) == (alice, True)
    assert simulation.current_task.generation.user == alice
    assert not guest.simulations.exists()
    assert not guest.generations.exists()


def test_where_both_are_in_the_middle_of_one_profession_the_guests_run_goes_into_the_history(
    client: Client, profession: Profession, alice: User
) -> None:
    elsewhere = Client()
    elsewhere.force_login(alice)
    alices = start(elsewhere, profession)
    guests = start(client, profession)
    guests_other = start(client, make_profession("baker"))
    log_in(client, "alice")
    current = {simulation.pk: simulation.is_current for simulation in Simulation.objects.visible_to(alice)}
    assert current == {alices.pk: True, guests.pk: False, guests_other.pk: True}


def test_a_wrong_password_hands_nothing_over(client: Client, profession: Profession, alice: User) -> None:
    simulation = start(client, profession)
    assert log_in(client, "alice", "wrong").status_code == 200
    simulation.refresh_from_db()
    assert simulation.user.is_guest
    assert user_of(client) == simulation.user


@pytest.mark.parametrize("login", ["alice", "alice@example.org", "ALICE@example.org"])
def test_people_log_in_with_name_or_address(client: Client, alice: User, login: str) -> None:
    entered = log_in(client, login)
    assert (entered.status_code, entered["Location"]) == (302, "/simulations")
    assert user_of(client) == alice


@pytest.mark.parametrize("path", ["/accounts/login/", "/accounts/signup/"])
def test_who_is_logged_in_is_sent_away_from_the_doors_and_a_guest_is_not(
    client: Client, alice: User, profession: Profession, path: str
) -> None:
    start(client, profession)
    assert client.get(path).status_code == 200
    client.force_login(alice)
    for response in (client.get(path), client.post(path, {"username": "carol", "login": "alice"})):
        assert (response.status_code, response["Location"]) == (302, "/simulations")
    assert user_of(client) == alice


@pytest.mark.parametrize("path", ["/accounts/email/", "/accounts/password/set/"])
def test_a_guest_gets_password_and_address_by_signing_up_only(
    client: Client, profession: Profession, alice: User, path: str
) -> None:
    start(client, profession)
    for response in (client.get(path), client.post(path, {"email": "carol@example.org", "action_add": ""})):
        assert (response.status_code, response["Location"]) == (302, "/accounts/signup/")
    assert not EmailAddress.objects.exists()
    client.force_login(alice)
    assert client.get("/accounts/email/").status_code == 200


@pytest.mark.parametrize("path", ["/account", "/simulations", "/simulations/1"])
def test_personal_pages_send_a_stranger_to_the_log_in(client: Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={path}")


def make_token(client: Client) -> str:
    made = client.post("/account/tokens")
    assert made.status_code == 200
    assert "no-store" in made["Cache-Control"]
    texts = set(TOKEN_TEXT.findall(made.text))
    assert len(texts) == 1
    return str(texts.pop())


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_a_token_is_shown_once_stored_hashed_and_stands_for_its_owner(
    client: Client, alice: User, profession: Profession
) -> None:
    client.force_login(alice)
    text = make_token(client)
    shown_later = client.get("/account")
    assert text not in shown_later.text
    assert AuthToken.objects.get().token_key in shown_later.text
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM knox_authtoken")
        (row,) = cursor.fetchall()
    assert row
    assert not any(text in str(value) for value in row)
    simulation = start(client, profession)
    listed = Client().get("/api/simulations", headers=bearer(text))
    assert [item["id"] for item in listed.json()] == [simulation.pk]


def test_a_token_needs_no_csrf_and_a_session_does(alice: User, profession: Profession) -> None:
    body = {"profession_id": profession.pk}
    program = Client(enforce_csrf_checks=True)
    made = program.post("/api/simulations", body, content_type="application/json", headers=bearer(create_token(alice)))
    assert made.status_code == 201
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    refused = browser.post("/api/simulations", body, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    assert Simulation.objects.count() == 1
    assert browser.post("/account/tokens").status_code == 403
    assert AuthToken.objects.count() == 1


def assert_is_refused(response: "Response") -> None:
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response["Content-Type"] == "application/json"
    problem = response.json()
    assert problem["code"] == "invalid_token"
    assert set(problem) == {"code", "detail", "message"}
    assert "Make a new one on your account page" in problem["detail"]


@pytest.mark.parametrize("text", ["x", "a b", "0" * 64, "Zo\xeb", "\xff\xfe", "x" * 5000])
def test_a_broken_token_is_refused_in_the_one_shape_of_errors(client: Client, alice: User, text: str) -> None:
    assert_is_refused(client.get("/api/simulations", headers=bearer(text)))
    client.force_login(alice)
    assert_is_refused(client.get("/api/simulations", headers=bearer(text)))


def test_without_any_token_the_answer_says_how_to_send_one(client: Client) -> None:
    refused = client.get("/api/simulations")
    assert (refused.status_code, refused["WWW-Authenticate"]) == (401, "Bearer")
    assert refused.json()["code"] == "not_authenticated"


def test_a_token_ends_by_itself(client: Client, alice: User) -> None:
    text = create_token(alice)
    token = AuthToken.objects.get()
    assert timedelta(days=89) < token.expiry - timezone.now() <= timedelta(days=90)
    AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert_is_refused(client.get("/api/simulations", headers=bearer(text)))


def test_a_token_of_somebody_disabled_is_refused(client: Client, alice: User) -> None:
    text = create_token(alice)
    User.objects.update(is_active=False)
    assert_is_refused(client.get("/api/simulations", headers=bearer(text)))


def test_a_revoked_token_is_refused_and_the_others_stay(client: Client, alice: User) -> None:
    client.force_login(alice)
    kept, revoked = make_token(client), make_token(client)
    token = AuthToken.objects.get(token_key=revoked[:15])
    assert f"/account/tokens/{token.pk}/revoke" in client.get("/account").text
    assert client.get(f"/account/tokens/{token.pk}/revoke").status_code == 405
    answered = client.post(f"/account/tokens/{token.pk}/revoke")
    assert (answered.status_code, answered["Location"]) == (302, "/account")
    assert_is_refused(client.get("/api/simulations", headers=bearer(revoked)))
    assert client.get("/api/simulations", headers=bearer(kept)).status_code == 200


def test_somebody_elses_token_can_be_neither_seen_nor_revoked(client: Client, alice: User, bob: User) -> None:
    text = create_token(alice)
    token = AuthToken.objects.get()
    client.force_login(bob)
    assert token.token_key not in client.get("/account").text
    assert client.post(f"/account/tokens/{token.pk}/revoke").status_code == 404
    assert Client().get("/api/simulations", headers=bearer(text)).status_code == 200


def test_a_few_wrong_passwords_keep_nobody_out(client: Client, alice: User) -> None:
    for _ in range(4):
        log_in(client, "alice", "wrong")
    assert log_in(client, "alice").status_code == 302


def test_thirty_learners_behind_one_address_sign_up_and_log_in_even_if_each_mistypes_once(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # ninety slow ones would take 40 s
    for number in range(30):
        assert sign_up(Client(), f"learner-{number}").status_code == 302
    for number in range(30):
        assert log_in(Client(), f"learner-{number}", "wrong").status_code == 200
        assert log_in(Client(), f"learner-{number}").status_code == 302
    assert User.objects.count() == 30


def changed_by_its_owner(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    form = {"oldpassword": PASSWORD, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert client.post("/accounts/password/change/", form).status_code == 302


def set_where_there_was_none(alice: User) -> None:
    User.objects.update(password="!")
    alice.refresh_from_db()
    client = Client()
    client.force_login(alice)
    form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert client.post("/accounts/password/set/", form).status_code == 302


def reset_by_a_link(alice: User) -> None:
    uid, key = user_pk_to_url_str(alice), EmailAwarePasswordResetTokenGenerator().make_token(alice)
    client = Client()
    at_form = client.get(f"/accounts/password/reset/key/{uid}-{key}/")
    form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert client.post(at_form["Location"], form).status_code == 302


def set_by_staff(alice: User) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("staff"))
    form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
    assert client.post(f"/admin/accounts/user/{alice.pk}/password/", form).status_code == 302


def taken_away_by_staff(alice: User) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("staff"))
    form = {"usable_password": "false", "unset-password": "on"}
    assert client.post(f"/admin/accounts/user/{alice.pk}/password/", form).status_code == 302


@pytest.mark.parametrize(
    "change",
    [changed_by_its_owner, set_where_there_was_none, reset_by_a_link, set_by_staff, taken_away_by_staff],
)
def test_a_new_password_ends_tokens_and_other_sessions(alice: User, bob: User, change: Callable[[User], None]) -> None:
    elsewhere = Client()
    elsewhere.force_login(alice)
    text, bobs = create_token(alice), create_token(bob)
    change(alice)
    assert_is_refused(Client().get("/api/simulations", headers=bearer(text)))
    assert elsewhere.get("/api/simulations").status_code == 401
    assert Client().get("/api/simulations", headers=bearer(bobs)).status_code == 200


def test_an_operators_new_password_ends_tokens(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    create_token(alice)
    monkeypatch.setattr("getpass.getpass", lambda prompt: NEW_PASSWORD)
    call_command("changepassword", "alice", stdout=StringIO())
    assert not AuthToken.objects.exists()


def test_a_better_hash_of_the_same_password_ends_no_token(client: Client, alice: User) -> None:
    alice.password = make_password(PASSWORD, hasher="pbkdf2_sha1")
    alice.save()
    text = create_token(alice)
    assert log_in(client, "alice").status_code == 302
    alice.refresh_from_db()
    assert alice.password.startswith("pbkdf2_sha256")
    assert Client().get("/api/simulations", headers=bearer(text)).status_code == 200


def test_a_guest_who_logs_in_to_an_account_ends_as_a_guest(client: Client, profession: Profession, alice: User) -> None:
    guest = start(client, profession).user
    text = create_token(guest)
    elsewhere = Client()
    elsewhere.force_login(guest)
    log_in(client, "alice")
    assert_is_refused(Client().get("/api/simulations", headers=bearer(text)))
    assert elsewhere.get("/api/simulations").status_code == 401
    guest.refresh_from_db()
    assert not guest.is_active
    assert client.get("/api/simulations").json()[0]["is_current"]


def test_somebody_disabled_has_no_session_any_more(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.get("/api/simulations").status_code == 200
    User.objects.update(is_active=False)
    assert client.get("/api/simulations").status_code == 401


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer ", "bearer   "])
def test_a_tokens_scheme_is_known_in_any_case_and_spacing(alice: User, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {create_token(alice)}"}
    assert Client().get("/api/simulations", headers=headers).status_code == 200


@pytest.mark.parametrize("header", ["Bearer", "bearer ", "Bearer a b"])
def test_a_scheme_without_one_token_is_refused_and_no_session_stands_for_it(
    client: Client, alice: User, header: str
) -> None:
    client.force_login(alice)
    assert_is_refused(client.get("/api/simulations", headers={"Authorization": header}))


@pytest.mark.parametrize("door", ["login", "signup"])
@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        ("/professions/gardener", "/professions/gardener"),
        ("https://evil.example/", "/simulations"),
        ("//evil.example/", "/simulations"),
        ("", "/simulations"),
    ],
)
def test_who_is_logged_in_already_is_led_to_where_the_door_would_lead(
    client: Client, alice: User, door: str, wanted: str, led_to: str
) -> None:
    client.force_login(alice)
    response = client.get(f"/accounts/{door}/", {"next": wanted})
    assert (response.status_code, response["Location"]) == (302, led_to)


def test_where_somebody_was_going_is_kept_between_log_in_and_sign_up(client: Client) -> None:
    address = "?next=%2Fprofessions%2Fgardener"
    at_log_in = client.get(f"/accounts/login/{address}")
    assert f'href="/accounts/signup/{address}"' in at_log_in.text
    at_sign_up = client.get(f"/accounts/signup/{address}")
    assert f'href="/accounts/login/{address}"' in at_sign_up.text
    assert sign_up(client, "carol", next="/professions/gardener")["Location"] == "/professions/gardener"
