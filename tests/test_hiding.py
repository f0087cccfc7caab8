"""A page about an error shows no key and no password, with DEBUG on as well."""

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest
from django.test import override_settings
from django.views.debug import get_default_exception_reporter_filter

from generation.upstream.faults import UpstreamFault
from tests.conftest import SECRET_KEY, ServerStarter
from tests.waiting import free_port
from web.hiding import HIDDEN, Filter, Reporter, without_secrets

SECRETS = {
    "OPENAI_API_KEYS": "sk-hidden-one,sk-hidden-two",
    "OPENROUTER_API_KEY": "sk-or-hidden-three",
    "REDIS_URL": f"redis://site:hidden%2Ffour@127.0.0.1:{free_port()}/0",
    "EMAIL_URL": "smtp://me:hidden%40five@mail.example.org:587",
    "SECRET_KEY": f"hidden-six-{SECRET_KEY}",
}

IN_SETTINGS = {
    "OPENAI_API_KEYS": ["sk-<hidden-one>"],
    "EMAIL_HOST_PASSWORD": "hidden@/five",
    "REDIS_URL": "redis://:hidden-four@127.0.0.1/0",
}
HELD = {"address": "postgres://me:hidden-seven@db/sim", "list": IN_SETTINGS["OPENAI_API_KEYS"], "harmless": "a rose"}
MESSAGE = "cannot use sk-<hidden-one>, hidden@/five, hidden%40%2Ffive"


def fail(held: Mapping[str, object], *, password: str) -> None:
    raise ValueError(MESSAGE)


def test_the_page_of_an_error_with_debug_on_holds_no_secret(start_server: ServerStarter, tmp_path: Path) -> None:
    file = tmp_path / "db.sqlite3"
    others = {"DEBUG": "on", "DATABASE_URL": f"sqlite:///{file}", "VAR_DIR": str(tmp_path)}
    server = start_server(**SECRETS, **others, OPENROUTER_MODEL="three")
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE professions_profession")
    failed = httpx2.get(f"{server.url}/")
    server.stop()
    assert failed.status_code == 500
    assert "no such table: professions_profession" in failed.text
    assert re.search(r"<td>CACHES</td>.*?redis://\*{8}@127\.0\.0\.1", failed.text, re.DOTALL), "where it is, is shown"
    assert "mail.example.org" in failed.text
    assert not re.search(r"hidden(-|/|@|%2F|%40)(one|two|three|four|five|six)", failed.text + server.log)


@override_settings(**IN_SETTINGS, DEBUG=True)
def test_what_a_frame_and_a_message_hold_is_hidden_too() -> None:
    with pytest.raises(ValueError, match="cannot use") as raised:
        fail(HELD, password="hidden-typed")
    traceback = raised.tb.tb_next  # the test's own lines are its source
    reporter = Reporter(None, raised.type, raised.value, traceback)
    for page in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert "hidden-" not in page
        assert "hidden@" not in page
        assert "hidden%40" not in page
        assert "cannot use ********, ********, ********" in page
    assert "a rose" in reporter.get_traceback_html()
    assert isinstance(get_default_exception_reporter_filter(), Filter)


def test_looking_for_passwords_takes_no_longer_than_reading() -> None:
    """Once for every letter, this would take hours."""
    long_word = "a" * 300_000
    assert (
        without_secrets(long_word + " http://alice:hunter2@example.org") == f"{long_word} http://{HIDDEN}@example.org"
    )


@pytest.mark.parametrize(
    "key", ["gsk_0123456789abcdef", "AIzaSy0123456789abcdef", "0123456789abcdef", "key with a blank"]
)
def test_a_key_of_whatever_shape_is_taken_out_of_what_a_provider_says(key: str) -> None:
    settings = {"OPENAI_API_KEYS": [key], "OPENROUTER_API_KEY": f"{key}-other"}
    with override_settings(**settings):
        fault = UpstreamFault(
            "provider_unauthorized", f"the key {key} is wrong, and {key}-other too", label=f"no {key}"
        )
    assert key not in f"{fault} {fault.label}"
    assert "is wrong" in str(fault)
