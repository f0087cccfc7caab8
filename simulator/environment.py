"""The environment that settings are read from: cleaned, checked, and every fault named at once.

A parser returns a usable value or raises `Unusable` with what to write instead, never with a key or a password.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import environ
import idna
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

# White space, and the marks that editors and web pages leave at the ends of what is copied.
AROUND = " \t\r\n\v\f\u00a0\ufeff\u200b"
LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
QUOTED = re.compile(r"""(["'])(.*?)\1\s*(?:#.*)?""")
COMMENT = re.compile(r"(?:^|\s)#.*")
ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\*\.)?(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(?::([0-9]+))?/*")
LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
PLACEHOLDER = re.compile(r"…|\.\.\.|[<>]|your[-_ ]?(api[-_ ]?)?key", re.IGNORECASE)
LONGEST_SECONDS = 86_400.0
LARGEST_NUMBER = 10**12
LONGEST_MODEL_NAME = 120
SHORTEST_SECRET_KEY = 50
FEWEST_DIFFERENT_CHARACTERS = 5
USUAL_PORTS = {"http": 80, "https": 443}
SQLITE_OPTIONS = {"timeout", "transaction_mode", "init_command", "cached_statements"}
MAIL_SCHEMES = {"smtp", "smtps", "smtp+tls", "smtp+ssl", "consolemail", "filemail", "memorymail", "dummymail"}


class UnusableSettings(ImproperlyConfigured):
    """Settings that the site cannot start with; the message holds a sentence a line."""


class Unusable(Exception):
    """A value that cannot be used; the message goes on where the setting's name stood."""


class Environment:
    """Named values, and what is wrong with those that were asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.faults: list[str] = []
        self._values = values
        self._asked: set[str] = set()

    @classmethod
    def load(cls, file: Path, process: MutableMapping[str, str] = os.environ) -> "Environment":
        """Return the process's environment, to which a file adds what is not set there."""
        environment = cls(process)
        try:
            for name, value in values_of(file).items():
                process.setdefault(name, value)
        except Unusable as fault:
            environment.faults.append(str(fault))
        return environment

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """Return a parsed value, or the default where it is empty or, with a fault noted, cannot be used."""
        self._asked.add(name)
        value = cleaned(self._values.get(name, ""))
        if not value:
            return default
        try:
            return parse(_printable(value))
        except Unusable as fault:
            self.faults.append(f"{name} {fault}")
            return default

    def raise_faults(self) -> None:
        if self.faults:
            raise UnusableSettings("\n".join(self.faults))

    def misspelled(self) -> dict[str, str]:
        """Return names that nothing asked for, each with the setting it resembles."""
        plain = {name.replace("_", ""): name for name in self._asked}
        found: dict[str, str] = {}
        for name in self._values.keys() - self._asked:
            for close in difflib.get_close_matches(name.replace("_", "").upper(), plain, n=1, cutoff=0.8):
                found[name] = plain[close]
        return found

    def text(self, name: str, default: str = "") -> str:
        return self.read(name, str, default)

    def seconds(self, name: str, default: float, *, zero_is: str = "") -> float:
        """Read a number of seconds; 0 only where it means something, which `zero_is` says."""
        what = f"a number of seconds, or 0 for {zero_is}" if zero_is else "a number of seconds above 0"

        def parse(value: str) -> float:
            seconds = float(value) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) else -1.0
            if not 0 <= seconds <= LONGEST_SECONDS or (seconds == 0 and not zero_is):
                raise Unusable(f"is {_shown(value)}; write {what}, at most {LONGEST_SECONDS:.0f}")
            return seconds

        return self.read(name, parse, float(default))

    def whole_number(self, name: str, default: int, *, least: int, most: int = LARGEST_NUMBER) -> int:
        def parse(value: str) -> int:
            number = int(value) if re.fullmatch(r"[0-9]{1,18}", value) else -1
            if not least <= number <= most:
                raise Unusable(f"is {_shown(value)}; write a whole number, {least} or more and at most {most}")
            return number

        return self.read(name, parse, default)

    def temperature(self, name: str, default: float | None) -> float | None:
        """Read a sampling temperature, None where it is to be left out."""

        def parse(value: str) -> float | None:
            if value.lower() == "none":
                return None
            temperature = float(value) if re.fullmatch(r"[0-2](\.[0-9]{1,9})?", value) else -1.0
            if not 0 <= temperature <= 2:
                raise Unusable(f"is {_shown(value)}; write a number from 0 to 2, or none to leave it out")
            return temperature

        return self.read(name, parse, default)

    def switch(self, name: str, *, default: bool) -> bool:
        def parse(value: str) -> bool:
            if value.lower() not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
                raise Unusable(f"is {_shown(value)}; write on or off")
            return value.lower() in {"1", "true", "yes", "on"}

        return self.read(name, parse, default)

    def site_url(self, name: str, default: str) -> str:
        """Read the public address as `scheme://host[:port]`, its name in ASCII."""

        def parse(value: str) -> str:
            try:
                return origin(value)
            except Unusable as fault:
                raise Unusable(
                    f"is {_shown(value)}; write the public address with its scheme and without a path, such as "
                    f"https://try.example.org ({fault})"
                ) from fault

        return self.read(name, parse, default)

    def hosts(self, name: str) -> list[str]:
        """Read names and addresses as Django wants them in ALLOWED_HOSTS."""
        return self.read(name, lambda value: [_allowed_host(part) for part in _parts(value)], [])

    def origins(self, name: str, *, subdomains: bool = False) -> list[str]:
        """Read a list of `scheme://host[:port]`; with `subdomains` a host may begin with `*.`."""

        def parse(value: str) -> list[str]:
            schemes = ("http", "https") if subdomains else None
            return [_listed_origin(part, schemes=schemes, subdomains=subdomains) for part in _parts(value)]

        return self.read(name, parse, [])

    def proxies(self, name: str, default: str) -> list[str]:
        """Read addresses and networks; `unix` is whoever comes through a unix socket."""
        return self.read(name, lambda value: [_proxy(part) for part in _parts(value)], _parts(default))

    def service_url(self, name: str, default: str) -> str:
        return self.read(name, service_url, default)

    def keys(self, name: str) -> list[str]:
        """Read keys separated by commas, each once."""
        return self.read(name, lambda value: list(dict.fromkeys(_key(part) for part in _parts(value))), [])

    def key(self, name: str) -> str:
        return self.read(name, _key, "")

    def models(self, name: str, default: str) -> list[str]:
        """Read names separated by commas."""
        return self.read(name, lambda value: [_model(part) for part in _parts(value)], _parts(default))

    def model(self, name: str, default: str) -> str:
        return self.read(name, _model, default)

    def path(self, name: str, default: Path, *, base: Path) -> Path:
        """Read a path; a relative one begins at `base`, wherever the command was started."""

        def parse(value: str) -> Path:
            try:
                return base / Path(value).expanduser()
            except RuntimeError as error:
                raise Unusable(
                    "begins with the home of somebody who is not known here; write the whole path"
                ) from error

        return self.read(name, parse, default)

    def secret_key(self, name: str) -> str:
        return self.read(name, secret_key, "")

    def database(self, name: str, default: Path, *, base: Path) -> dict[str, Any]:
        """Read a database URL as Django's settings; without one, SQLite in the file `default`."""
        return self.read(name, lambda value: database(value, base=base), sqlite(default))

    def redis_url(self, name: str) -> str:
        return self.read(name, redis_url, "")

    def email(self, name: str, default: str) -> dict[str, Any]:
        """Read a mail URL as Django's settings."""
        return self.read(name, email, email(default))


def values_of(file: Path) -> dict[str, str]:
    """Return the values of a file of `NAME=VALUE` lines; none where there is no file.

    Not environ's reader: it passes over a file that it cannot open, keeps what stands behind a value, and with
    `parse_comments` cuts a key that holds a #.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Unusable(f"{file} cannot be read ({error.strerror}); make it a file that this user may read") from error
    except UnicodeDecodeError as error:
        raise Unusable(f"{file} is not a text in UTF-8; save it in that encoding") from error
    values: dict[str, str] = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if not (stripped := line.strip(AROUND)) or stripped.startswith("#"):
            continue
        match = LINE.fullmatch(stripped)
        value = match and _unquoted(match[2])
        if match is None or value is None or "\0" in value:
            raise Unusable(f"{file}, line {number}, cannot be read; write NAME=VALUE, quotation marks in pairs")
        values[match[1]] = value
    return values


def _unquoted(value: str) -> str | None:
    """Return a value without its quotation marks and the comment behind it; None when a mark is not closed."""
    if quoted := QUOTED.fullmatch(value):
        return re.sub(r'\\(["\\])', r"\1", quoted[2]) if quoted[1] == '"' else quoted[2]
    if value.startswith(("'", '"')):
        return None
    return COMMENT.sub("", value).strip(AROUND)


def cleaned(value: str) -> str:
    """Return a value without what surrounds it: white space, byte order marks, a pair of quotation marks."""
    value = value.strip(AROUND)
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1].strip(AROUND)
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise Unusable("holds a line break or an invisible character; write it again by hand, in one line")
    return value


def _shown(value: str) -> str:
    """Return a value as a sentence may hold it: short, and without what stands before an @."""
    return repr(value.rpartition("@")[2][:60])


def _parts(value: str) -> list[str]:
    return [part for raw in value.split(",") if (part := cleaned(raw))]


def host(name: str) -> str:
    """Return a host name in lower case and ASCII (UTS 46), or an address, IPv6 in brackets."""
    try:
        if ":" in name:
            return f"[{ipaddress.IPv6Address(name.strip('[]'))}]"
        ascii_name = name if name.isascii() else idna.encode(name, uts46=True).decode("ascii")
        ascii_name = ascii_name.lower().removesuffix(".")
        labels = ascii_name.split(".")
        if labels[-1].isdigit():
            return str(ipaddress.IPv4Address(ascii_name))
    except ValueError as error:  # idna's and ipaddress's own errors are of this kind
        raise Unusable(f"{_shown(name)} is no host name and no address") from error
    if len(ascii_name) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise Unusable(f"{_shown(name)} is no host name: letters, digits, hyphens and dots make one")
    return ascii_name


def port(digits: str) -> int:
    number = int(digits) if re.fullmatch(r"[0-9]{1,5}", digits) else 0
    if not 1 <= number <= 65_535:
        raise Unusable("a port is a number from 1 to 65535")
    return number


def origin(text: str, *, schemes: tuple[str, ...] | None = ("http", "https"), subdomains: bool = False) -> str:
    """Return `scheme://host[:port]` as browsers write it: lower case, ASCII, no slash, no usual port."""
    match = ORIGIN.fullmatch(text)
    if match is None or (schemes and match[1].lower() not in schemes) or (match[2] and not subdomains):
        raise Unusable(f"{' or '.join(schemes or ('scheme',))}://HOST[:PORT] is wanted")
    scheme, name = match[1].lower(), (match[2] or "") + host(match[3])
    number = port(match[4]) if match[4] else None
    return f"{scheme}://{name}" + (f":{number}" if number and number != USUAL_PORTS.get(scheme) else "")


def host_of(address: str) -> str:
    """Return the host of an origin as a browser sends it, IPv6 in brackets."""
    return re.sub(r":[0-9]+$", "", address.partition("://")[2])


def _listed_origin(text: str, *, schemes: tuple[str, ...] | None, subdomains: bool) -> str:
    if text == "*":
        raise Unusable("is '*', which would let every site act as the person logged in; name each origin")
    try:
        return origin(text, schemes=schemes, subdomains=subdomains)
    except Unusable as fault:
        raise Unusable(f"holds {_shown(text)}; write origins such as https://app.example.org ({fault})") from fault


def _allowed_host(text: str) -> str:
    if text == "*":
        return text
    try:
        return "." + host(text[1:]) if text.startswith(".") else host(text)
    except Unusable as fault:
        raise Unusable(
            f"holds {_shown(text)}; write hosts alone, without scheme, port or path, such as try.example.org"
        ) from fault


def _proxy(text: str) -> str:
    if text == "unix":
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise Unusable(
            f"holds {_shown(text)}; write addresses and networks such as 10.0.0.5,10.1.0.0/16,fd00::/8, and unix for a "
            "unix socket"
        ) from error


def _split(text: str, *, schemes: set[str], example: str) -> SplitResult:
    """Split a URL of one of these schemes; raises Unusable without showing it, because it may hold a password."""
    try:
        parts = urlsplit(text)
        number = parts.port
    except ValueError as error:
        raise Unusable(f"has a host or a port that cannot be read; write it like {example}") from error
    if parts.scheme not in schemes:
        raise Unusable(f"does not begin with {' or '.join(f'{one}://' for one in sorted(schemes))}; write {example}")
    if re.search(r"\s", text):
        raise Unusable(f"holds a blank; write it like {example}, and a comment in a line of its own")
    if "#" in text:
        raise Unusable("holds a #, which ends a URL; write %23 for it, and a comment in a line of its own")
    if number == 0:
        raise Unusable("names port 0; a port is a number from 1 to 65535")
    return parts


def service_url(text: str) -> str:
    """Return the base address of an API: its host in ASCII, its path and query as they are."""
    parts = _split(text, schemes={"http", "https"}, example="https://api.example.org/v1")
    if "@" in parts.netloc:
        raise Unusable("holds a name or a password; write the address alone, and the key where keys are written")
    if not parts.hostname:
        raise Unusable("names no host; write it like https://api.example.org/v1")
    if parts.path.rstrip("/").endswith("/completions"):
        raise Unusable("names one call; write the base address, which ends before /chat/completions")
    netloc = host(parts.hostname) + (f":{parts.port}" if parts.port else "")
    return parts._replace(netloc=netloc).geturl()


def _key(text: str) -> str:
    if PLACEHOLDER.search(text):
        raise Unusable("is the example's placeholder; write your own key, or take the line away")
    if not re.fullmatch(r"[!-~]+", text):
        raise Unusable("holds a blank or a character that no key has; copy the key again")
    return text


def _model(text: str) -> str:
    if len(text) > LONGEST_MODEL_NAME:
        raise Unusable(f"holds a name of more than {LONGEST_MODEL_NAME} characters; write the name of a model")
    return text


def secret_key(text: str) -> str:
    """Return a key that Django calls strong enough (its check security.W009)."""
    make = "`python -c 'import secrets; print(secrets.token_urlsafe(64))'` makes one"
    if len(text) < SHORTEST_SECRET_KEY:
        raise Unusable(f"has {len(text)} characters; {SHORTEST_SECRET_KEY} or more are needed. {make}")
    if len(set(text)) < FEWEST_DIFFERENT_CHARACTERS or text.startswith("django-insecure-"):
        raise Unusable(f"can be guessed: too few different characters, or django-insecure- before it. {make}")
    return text


def database(text: str, *, base: Path) -> dict[str, Any]:
    """Return Django's settings for a database URL; what its query says is kept."""
    scheme = text.partition("://")[0]
    if scheme == "sqlite":
        return _sqlite_url(text, base=base)
    if scheme in {"postgres", "postgresql"}:
        return _postgres_url(text)
    raise Unusable("cannot be used; write sqlite:///PATH or postgres://USER:PASSWORD@HOST/NAME")


def sqlite(file: Path) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file), "OPTIONS": {}}


def _sqlite_url(text: str, *, base: Path) -> dict[str, Any]:
    parts = _split(text, schemes={"sqlite"}, example="sqlite:////srv/site/db.sqlite3")
    if parts.netloc or len(parts.path) < 2:
        raise Unusable("names no file; write sqlite:///PATH, where an absolute path has one slash more")
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if unknown := options.keys() - SQLITE_OPTIONS:
        raise Unusable(f"has options that SQLite does not know ({', '.join(sorted(unknown))}); take them away")
    for name in ("timeout", "cached_statements"):
        if name in options:
            if not re.fullmatch(r"[0-9]{1,6}", options[name]):
                raise Unusable(f"has a {name} that is no whole number; write it in digits")
            options[name] = int(options[name])
    if options.get("transaction_mode", "IMMEDIATE").upper() not in {"DEFERRED", "IMMEDIATE", "EXCLUSIVE"}:
        raise Unusable("has an unknown transaction_mode; write DEFERRED, IMMEDIATE or EXCLUSIVE")
    return sqlite(base / unquote(parts.path[1:])) | {"OPTIONS": options}


def _postgres_url(text: str) -> dict[str, Any]:
    """Return Django's settings for a PostgreSQL URL as libpq reads it, whose syntax it is."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    example = "postgres://USER:PASSWORD@HOST/NAME"
    if re.search(r"[\s#]", text):
        raise Unusable(f"holds a blank or a #; write %20 or %23 for it, as in {example}")
    try:
        options: dict[str, Any] = conninfo_to_dict(text)
    except psycopg.Error as error:
        # libpq quotes what it could not read; an option's name is no secret, the rest may be.
        option = re.search(r'invalid URI query parameter: "(\w+)"', str(error))
        what = f"has the unknown option {option[1]}" if option else "cannot be read"
        raise Unusable(f"{what}; write {example}, with %40 for @, %2F for / and %25 for %") from error
    try:
        for number in filter(None, str(options.get("port", "")).split(",")):
            port(number)
    except Unusable as fault:
        raise Unusable(f"has a port that cannot be used: {fault}") from fault
    if not options.get("dbname") and not options.get("service"):
        raise Unusable(f"names no database; write {example}")
    if not str(options.get("connect_timeout", 0)).isdigit():
        raise Unusable("has a connect_timeout that is no whole number; write seconds in digits")
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    settings = {ours: str(options.pop(theirs, None) or "") for ours, theirs in names.items()}
    return {"ENGINE": "django.db.backends.postgresql", **settings, "OPTIONS": options}


def redis_url(text: str) -> str:
    """Return the URL as it is, once redis-py can make connections from it."""
    import redis

    example = "redis://127.0.0.1:6379/0"
    parts = _split(text, schemes={"redis", "rediss", "unix"}, example=example)
    if parts.scheme != "unix" and not (parts.hostname and re.fullmatch(r"/?[0-9]{0,4}", parts.path)):
        raise Unusable(f"needs a host and, behind it, at most the number of a database; write it like {example}")
    try:
        redis.ConnectionPool.from_url(text).make_connection()
    except (ValueError, TypeError, redis.RedisError) as error:
        raise Unusable(f"has an option that redis-py does not know; write it like {example}") from error
    return text


def email(text: str) -> dict[str, Any]:
    """Return Django's settings for a mail URL."""
    example = "smtp://USER:PASSWORD@HOST:587"
    parts = _split(text, schemes=MAIL_SCHEMES, example=f"{example} (smtp+tls:// for STARTTLS, smtp+ssl:// for TLS)")
    if "smtp" in parts.scheme and not parts.hostname:
        raise Unusable(f"names no host; write it like {example}")
    try:
        settings: dict[str, Any] = environ.Env.email_url_config(text)
    except (ValueError, ImproperlyConfigured) as error:
        raise Unusable(f"cannot be read; write it like {example}") from error
    if "smtp" in parts.scheme and not parts.port:
        settings["EMAIL_PORT"] = {"smtp": 25, "smtp+ssl": 465}.get(parts.scheme, 587)
    return {name: value for name, value in settings.items() if name.startswith("EMAIL_") and value is not None}
