"""What a log line looks like, and what must never reach one."""

import functools
import logging
import re
import sys
from collections.abc import Iterator

from django.conf import settings
from django.urls import URLResolver, get_resolver

from web.database import is_unavailable
from web.hiding import without_secrets

GAP = "…"
# Parts of our own addresses that open something for whoever has them. tests/test_logs.py asks that each text
# parameter of the URL table is named here or there.
SECRET_PARAMETERS = {"key", "token", "secret", "code"}
# Everything else in a query may be a question, an answer, a name or a key.
LOGGED_QUERY_PARAMETERS = {"after", "hold", "page"}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_WORD = re.compile(r"\S+")
_NAMED = re.compile(r"(?<![\w-])([\w-]++)=[^\s&\"',;)]+")
_SECRET_NAMES = {"api_key", "apikey", "token", "access_token", "refresh_token", "key", "code", "password", "secret"}
_SECRET_NAMES |= {"client_secret", "sessionid", "csrftoken", "__host-sessionid", "__host-csrftoken"}
_BEARER = re.compile(r"\b(Bearer )\S+", re.IGNORECASE)


class NoTexts(logging.Filter):
    """Drop records that carry prompts, answers or SQL parameters, whatever level the operator chose.

    At DEBUG the openai package logs the whole request, prompts included (`OPENAI_LOG=debug` turns that on behind
    Django's back), and Django logs each statement with its parameters, answers included.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        carries_texts = record.name == "openai" or record.name.startswith(("openai.", "django.db.backends", "httpcore"))
        return not (carries_texts and record.levelno < logging.INFO)


class DatabaseTroubleInALine(logging.Filter):
    """Say in the line itself that the database cannot be used, instead of in a traceback of each request."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if is_unavailable(error):
            reason = " ".join(str(error).split())
            record.msg, record.args = f"{record.getMessage()}: the database cannot be used: {reason}", ()
            record.exc_info = record.exc_text = None
        return True


class LogLine(logging.Formatter):
    """Write each record as one line without secrets and control characters; what follows it of a traceback is marked.

    Names of models, error texts, paths and names of people come from outside: none of them can end a line and begin
    one that looks like another.
    """

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        return "\n".join(
            [inert(self.formatMessage(record)), *(f"    | {inert(line)}" for line in self._traceback(record))]
        )

    def _traceback(self, record: logging.LogRecord) -> Iterator[str]:
        # What a stranger sent is no fault of ours: twenty lines of where it was found tell nobody anything.
        if record.name.startswith("django.security."):
            return
        # Not record.exc_text, where another handler may have left its own version.
        if record.exc_info and record.exc_info[0] is not None:
            yield from self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            yield from self.formatStack(record.stack_info).split("\n")


def inert(text: str) -> str:
    """Return a text from outside as it may stand in a line of a log."""
    return visible(_without_parameters(without_secrets(text)))


def visible(text: str) -> str:
    """Return a text with line ends, terminal commands and changes of direction written as escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _without_parameters(text: str) -> str:
    """Return a text without secret parts of our addresses, and without what queries and headers carry."""
    paths = _secret_paths()
    if paths is not None:
        text = paths.sub(rf"\g<place>{GAP}", text)
    if "?" in text:
        # Word by word: a pattern that looks for a path before each question mark takes for ever with a long one.
        text = _WORD.sub(_query_without_values, text)
    text = _NAMED.sub(lambda found: f"{found[1]}={GAP}" if found[1].lower() in _SECRET_NAMES else found[0], text)
    return _BEARER.sub(rf"\1{GAP}", text)


def _query_without_values(found: re.Match[str]) -> str:
    path, _, query = found[0].partition("?")
    if not query or ("/" not in path and "=" not in query):
        return found[0]  # a question mark in a sentence
    return f"{path}?{'&'.join(map(_parameter_without_value, re.split('[&;]', query)))}"


def _parameter_without_value(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if name in LOGGED_QUERY_PARAMETERS:
        return parameter
    return f"{name}={GAP}" if equals else GAP


def _secret_paths() -> re.Pattern[str] | None:
    """Return what finds the secret parts of our own paths; None as long as no URL table is there."""
    # Asked earlier, the resolver would import the table in the middle of a log call.
    if not hasattr(sys.modules.get(settings.ROOT_URLCONF), "urlpatterns"):
        return None
    return _compile_secret_paths(settings.ROOT_URLCONF)


@functools.cache
def _compile_secret_paths(urlconf: str) -> re.Pattern[str]:
    places = sorted(set(_places_of_secrets(get_resolver(urlconf))))
    return re.compile(rf"(?P<place>{'|'.join(places)})[^\s?]+") if places else re.compile(r"(?P<place>)(?!)")


def _places_of_secrets(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """Yield, for each route with a secret parameter, a pattern of all that stands before it."""
    for route in list(resolver.reverse_dict):
        for possibilities, *_ in resolver.reverse_dict.getlist(route):
            for template, _ in possibilities:
                place = ""
                # Literal text and names of parameters by turns.
                for index, part in enumerate(re.split(r"%\((\w+)\)s", prefix + template)):
                    if index % 2 and part in SECRET_PARAMETERS:
                        yield place
                    place += r"[^/\s?]+?" if index % 2 else re.escape(part)
    for start, included in resolver.namespace_dict.values():
        yield from _places_of_secrets(included, prefix + start)
