"""What nobody may read on a page or in a line about an error: keys, passwords, and URLs that hold them."""

import html
import re
from collections.abc import Iterator
from pprint import pformat
from types import FrameType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

HIDDEN = "********"
# Variables in the frames of a traceback; what the settings are called Django knows.
SECRET_NAMES = re.compile(r"passw|secret|token|api_?key", re.IGNORECASE)
# From `://` on: a pattern that began with the scheme would look for its end from every letter of a long word.
CREDENTIALS = re.compile(r"://[^/\s\"'<>]*@")
# A shorter one is a word that texts hold for other reasons (a user called site with the password site).
SHORTEST = 8


def without_secrets(text: str) -> str:
    """Return a text without the passwords in URLs and without every key and password of the settings."""
    text = CREDENTIALS.sub(f"://{HIDDEN}@", text)
    for secret in _secrets():
        for form in {secret, quote(secret, safe=""), html.escape(secret)}:
            text = text.replace(form, HIDDEN)
    return text


def _secrets() -> Iterator[str]:
    in_url = urlsplit(settings.REDIS_URL).password or ""
    secrets = [
        settings.SECRET_KEY,
        *settings.OPENAI_API_KEYS,
        settings.OPENROUTER_API_KEY,
        settings.EMAIL_HOST_PASSWORD,
        in_url,
        unquote(in_url),
        *(database.get("PASSWORD") for database in settings.DATABASES.values()),
    ]
    return (secret for secret in secrets if secret and len(secret) >= SHORTEST)


class _Shown:
    """A value that shows itself without secrets; a page shows the `repr` of a value."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return without_secrets(pformat(self.value))


class Filter(SafeExceptionReporterFilter):
    """Hides also where DEBUG is on: such a page is seen over a shoulder, and pasted into a question."""

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        return without_secrets(cleansed) if isinstance(cleansed, str) else cleansed

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> Any:
        variables = super().get_traceback_frame_variables(request, tb_frame)
        return [
            (name, self.cleansed_substitute if SECRET_NAMES.search(name) else _Shown(value))
            for name, value in variables
        ]


class Reporter(ExceptionReporter):
    """Hides once more when all is written: a message or a line of the source may hold a secret too."""

    def get_traceback_html(self) -> SafeString:
        return mark_safe(without_secrets(super().get_traceback_html()))  # noqa: S308  # Django escaped it

    def get_traceback_text(self) -> SafeString:
        return mark_safe(without_secrets(super().get_traceback_text()))  # noqa: S308  # not HTML
