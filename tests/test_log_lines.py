"""What comes from outside can neither forge a log line nor leave a secret in one."""

import logging
import re
import sys
from collections.abc import Iterator

import pytest
from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.test import override_settings
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.converters import IntConverter, SlugConverter, UUIDConverter

from accounts.models import User
from generation.models import Attempt
from professions.models import Profession
from tests.client import Client
from tests.conftest import Server
from tests.fake_openai import Behaviour, FakeOpenAI, Refusal
from tests.waiting import wait_until
from web.logs import SECRET_PARAMETERS, LogLine, inert

BEGINNING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+ ")
HARMLESS_PARAMETERS = {
    "app_label",  # the admin's, open to staff alone
    "id",
    "content_type_id",
    "model_name",
    "object_id",
    "address",  # where no API is
    "url",
    "uidb36",  # whose new password it is; nothing without the key beside it
    "pk",  # the hash of a token
}


def written(level: int, message: str, *arguments: object, exc_info: bool = False) -> str:
    formatter = LogLine("%(asctime)s %(levelname)s %(name)s %(message)s")
    error = sys.exc_info() if exc_info else None
    return formatter.format(logging.LogRecord("a.logger", level, __file__, 1, message, arguments, error))


@pytest.mark.parametrize(
    ("hostile", "escaped"),
    [
        ("\n", r"\n"),
        ("\r\n", r"\r\n"),
        ("\x0b\x0c\x1c\x1d\x1e", r"\x0b\x0c\x1c\x1d\x1e"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x85\x9b2J\x7f", r"\x85\x9b2J\x7f"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u202a\u202b\u202c\u202d\u202e", r"\u202a\u202b\u202c\u202d\u202e"),
        ("\u2066\u2067\u2068\u2069\u200e\u200f\u061c", r"\u2066\u2067\u2068\u2069\u200e\u200f\u061c"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_stand_in_a_line_as_escapes(hostile: str, escaped: str) -> None:
    line = written(logging.INFO, "model %s", f"gpt{hostile}2026-01-01 00:00:00,000 INFO forged")
    assert line.endswith(f"INFO a.logger model gpt{escaped}2026-01-01 00:00:00,000 INFO forged")
    assert len(line.splitlines()) == 1


def test_peoples_languages_stay_as_they_are() -> None:
    text = "Привет مرحبا 📦 ½ «Łódź»"
    assert written(logging.INFO, text).endswith(text)


def test_no_line_of_a_traceback_can_pose_as_a_log_line() -> None:
    def fail() -> None:
        raise ValueError("x\n2026-01-01 00:00:00,000 INFO forged all is well\r?token=abc")

    try:
        fail()
    except ValueError:
        first, *others = written(logging.ERROR, "broke", exc_info=True).split("\n")
    assert BEGINNING.match(first)
    assert others[0] == "    | Traceback (most recent call last):"
    assert others[-1] == "    | 2026-01-01 00:00:00,000 INFO forged all is well\\r?token=…"
    assert all(line.startswith("    | ") for line in others)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('"GET /x?token=abc&after=3 HTTP/1.1" 200', '"GET /x?token=…&after=3 HTTP/1.1" 200'),
        ("/admin/api/chat/stream?question=why%20me", "/admin/api/chat/stream?question=…"),
        ("/x?sk-abc", "/x?…"),
        ("/x?%74oken=abc", "/x?%74oken=…"),
        ("next=/accounts/password/reset/key/1-abc-def", "next=/accounts/password/reset/key/1-…"),
        ("//accounts/confirm-email/MQ:1a:b%2Fc", "//accounts/confirm-email/…"),
        ("refused: code=123456, api_key='abc'", "refused: code=…, api_key='abc'"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
        ("__Host-sessionid=abc; csrftoken=def", "__Host-sessionid=…; csrftoken=…"),
        ("Who asks? Nobody (status 403, code model_not_found, param messages)", None),
        ("[STREAMING] Stream completed for user 1, profession 1 generation=8b1c", None),
    ],
)
def test_secrets_in_paths_and_queries_are_left_out(text: str, kept: str | None) -> None:
    assert get_resolver().url_patterns, "the URL table is there"
    assert inert(text) == (text if kept is None else kept)


@override_settings(
    OPENAI_API_KEYS=["sk-hidden-one"], EMAIL_HOST_PASSWORD="hidden@/two", REDIS_URL="redis://:hidden%2Fthree@a/0"
)
def test_the_sites_own_secrets_are_left_out_wherever_and_however_they_stand() -> None:
    secrets = [settings.SECRET_KEY, "sk-hidden-one", "hidden@/two", "hidden%40%2Ftwo", "hidden%2Fthree", "hidden/three"]
    for secret in [*secrets, "redis://:hidden-four@b", "postgres://me:hidden-five@c/d"]:
        line = written(logging.INFO, "cannot use %s!", secret)
        assert "hidden" not in line
        assert "********" in line
    assert settings.SECRET_KEY not in written(logging.INFO, "%s", settings.SECRET_KEY)


def test_a_line_as_long_as_a_request_may_be_costs_no_more_than_its_length() -> None:
    """A pattern that looked at it from each of its characters on would take minutes, and end this process."""
    for part in ("a", "a://", "://", "a@", "/", "?", "=", "a=", "&a"):
        assert inert(part * 60_000)


def text_parameters(resolver: URLResolver) -> Iterator[str]:
    for pattern in resolver.url_patterns:
        converters = getattr(pattern.pattern, "converters", {})
        harmless = {
            name for name, how in converters.items() if isinstance(how, (IntConverter, UUIDConverter, SlugConverter))
        }
        regex = re.compile(str(pattern.pattern.regex.pattern))
        yield from set(regex.groupindex) - harmless
        if isinstance(pattern, URLResolver):
            yield from text_parameters(pattern)
        else:
            assert isinstance(pattern, URLPattern)


def test_each_text_parameter_of_the_url_table_is_known_as_secret_or_harmless() -> None:
    """Whoever adds a link that opens something by itself names its parameter in SECRET_PARAMETERS."""
    assert set(text_parameters(get_resolver())) - HARMLESS_PARAMETERS <= SECRET_PARAMETERS


def test_keys_for_new_passwords_and_addresses_work_and_are_in_no_log(server: Server, alice: User) -> None:
    reset = f"{user_pk_to_url_str(alice)}-{default_token_generator.make_token(alice)}"
    before = len(server.log)
    with Client(server.url) as browser:
        opened = browser.get(f"/accounts/password/reset/key/{reset}/")
        assert opened.status_code == 302, "the key is right"
        assert reset not in opened.headers["location"], "no page has the key in its address, so none refers to it"
        assert opened.headers["referrer-policy"] == "same-origin"
        assert browser.get(f"/accounts/password/reset/key/{reset}").status_code == 301, "it lacks its slash"
        browser.get("/accounts/confirm-email/MQ:1abc:a-secret-key/")
        browser.get("/admin/api/chat/stream?question=my-secret-question")
        browser.get("/nothing?access_token=my-secret-token&code=my-secret-code&next=/?key=my-secret-key")
        browser.get("/nothing%0A2026-01-01%2000:00:00,000%20INFO%20forged%20all%20is%20well%1B[2J")
        browser.http.post("/accounts/login/?key=my-secret", data={"login": "a\nb", "password": "my-secret-password"})
    wait_until(lambda: "POST /accounts/login/" in server.log[before:], what="the last request in the log")
    log = server.log[before:]
    assert "/accounts/password/reset/key/" in log
    assert reset.partition("-")[2] not in log
    assert "secret" not in log
    assert all(BEGINNING.match(line) for line in log.splitlines())
    assert not [line for line in log.splitlines() if line.startswith("2026-01-01")]


def test_a_provider_cannot_forge_lines_with_what_it_answers(
    as_alice: Client, server: Server, provider: FakeOpenAI, profession: Profession
) -> None:
    before = len(server.log)
    provider.script(Behaviour(status=Refusal.FORGED))
    as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    lines = server.log[before:].splitlines()
    assert any(r"code b\n2026-01-01" in line for line in lines)
    assert all(BEGINNING.match(line) and " INFO forged" not in line[:40] for line in lines)
    detail = Attempt.objects.exclude(detail="").values_list("detail", flat=True)
    assert any(r"\n2026-01-01" in text for text in detail)
    assert all(len(text.splitlines()) == 1 and "\x1b" not in text and "\u202e" not in text for text in detail)


def test_what_a_stranger_sends_too_much_of_is_one_line(authored_server: Server) -> None:
    before = len(authored_server.log)
    with Client(authored_server.url) as browser:
        assert browser.http.post("/accounts/login/", content=b"a" * 300_000).status_code == 413
    wait_until(lambda: '"POST /accounts/login/ HTTP/1.1" 413' in authored_server.log[before:], what="the access log")
    refused, *others = authored_server.log[before:].splitlines()
    assert "ERROR django.security.RequestDataTooBig" in refused
    assert all(BEGINNING.match(line) for line in others)
    assert "Traceback" not in authored_server.log[before:]
