"""What a value in the environment or in .env comes out as, and the sentence that a value gets which cannot be used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.environment import Environment, Unusable, host_of, values_of
from tests.conftest import SECRET_KEY

BASE = Path("/srv/site")
Read = Callable[[Environment], object]


def read(value: str, how: Read) -> object:
    environment = Environment({"NAME": value})
    found = how(environment)
    environment.raise_faults()
    return found


def fault(value: str, how: Read) -> str:
    environment = Environment({"NAME": value})
    how(environment)
    (sentence,) = environment.faults
    assert sentence.startswith("NAME ")
    assert "\n" not in sentence
    return sentence


def text(environment: Environment) -> object:
    return environment.text("NAME", "default")


def number(environment: Environment) -> object:
    return environment.whole_number("NAME", 7, least=1)


def seconds(environment: Environment) -> object:
    return environment.seconds("NAME", 7)


def switch(environment: Environment) -> object:
    return environment.switch("NAME", default=True)


def names(environment: Environment) -> object:
    return environment.names("NAME", "a,b")


def site_url(environment: Environment) -> object:
    return environment.site_url("NAME", "http://127.0.0.1:8000")


def hosts(environment: Environment) -> object:
    return environment.hosts("NAME")


def origins(environment: Environment) -> object:
    return environment.origins("NAME")


def trusted_origins(environment: Environment) -> object:
    return environment.origins("NAME", subdomains=True)


def service_url(environment: Environment) -> object:
    return environment.service_url("NAME", "https://api.openai.com/v1")


def keys(environment: Environment) -> object:
    return environment.keys("NAME")


def secret_key(environment: Environment) -> object:
    return environment.secret_key("NAME")


def database(environment: Environment) -> object:
    return environment.database("NAME", BASE / "var" / "db.sqlite3", base=BASE)


def redis_url(environment: Environment) -> object:
    return environment.redis_url("NAME")


def email(environment: Environment) -> object:
    return environment.email("NAME", "dummymail://")


def path(environment: Environment) -> object:
    return environment.path("NAME", BASE / "var", base=BASE)


ALL: list[Read] = [
    text, number, seconds, switch, names, site_url, hosts, origins, trusted_origins, service_url, keys, secret_key,
    database, redis_url, email, path,
]  # fmt: skip


@pytest.mark.parametrize("how", ALL)
def test_empty_means_the_default_whatever_is_read(how: Read) -> None:
    unset = how(Environment({}))
    for nothing in ("", " ", "\t\r\n", "\ufeff", '""', "''", '" "', "\u00a0"):
        assert read(nothing, how) == unset


@pytest.mark.parametrize("how", ALL)
def test_an_invisible_character_inside_is_named(how: Read) -> None:
    for character in ("\n", "\r", "\x00", "\x1b", "\u200b", "\u202e", "\u2028", "\udcff"):
        assert "holds a line break or an invisible character" in fault(f"8{character}8", how)


@pytest.mark.parametrize("around", [" {} ", "\ufeff{}", "{}\r\n", '"{}"', " '{}' ", '\ufeff" {} "\r', "{}\u00a0"])
def test_what_surrounds_a_value_does_not_belong_to_it(around: str) -> None:
    assert read(around.format("http://127.0.0.1:11434/v1"), service_url) == "http://127.0.0.1:11434/v1"
    assert read(around.format("sk-1,sk-2"), keys) == ["sk-1", "sk-2"]
    assert read(around.format("12"), number) == 12
    assert read(around.format("off"), switch) is False


@pytest.mark.parametrize(
    ("how", "value", "expected"),
    [
        (number, "000012", 12),
        (seconds, "1.5", 1.5),
        (names, " a , 'b' ,,c ", ["a", "b", "c"]),
        (names, ",", []),
        (keys, "sk-1, sk-1 ,sk-2", ["sk-1", "sk-2"]),
        (site_url, "HTTPS://Try.Example.ORG:443//", "https://try.example.org"),
        (site_url, "http://try.example.org.:80", "http://try.example.org"),
        (site_url, "https://try.example.org:80", "https://try.example.org:80"),
        (site_url, "https://Пример.рф", "https://xn--e1afmkfd.xn--p1ai"),
        (site_url, "https://FAẞ.example。org", "https://xn--fa-hia.example.org"),
        (site_url, "http://[::0001]:8000", "http://[::1]:8000"),
        (site_url, "http://192.168.1.20:8000/", "http://192.168.1.20:8000"),
        (hosts, "Try.Example.org, .Example.org ,::1,[::1],127.0.0.1", [
            "try.example.org", ".example.org", "[::1]", "[::1]", "127.0.0.1",
        ]),
        (hosts, "*", ["*"]),
        (origins, "https://App.example.org/, http://localhost:5173", [
            "https://app.example.org", "http://localhost:5173",
        ]),
        (origins, "capacitor://localhost", ["capacitor://localhost"]),
        (trusted_origins, "https://*.example.org", ["https://*.example.org"]),
        (service_url, "https://Models.Example.org:443/v1/?api-version=2025-01&x=%2F", (
            "https://models.example.org:443/v1/?api-version=2025-01&x=%2F"
        )),
        (service_url, "https://MÜNCHEN.example/v1", "https://xn--mnchen-3ya.example/v1"),
        (secret_key, SECRET_KEY, SECRET_KEY),
        (redis_url, "redis://:p%40ss@127.0.0.1:6379/2?socket_timeout=5", (
            "redis://:p%40ss@127.0.0.1:6379/2?socket_timeout=5"
        )),
        (redis_url, "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        (path, "data", BASE / "data"),
        (path, "/srv/a b#c?d%20é", Path("/srv/a b#c?d%20é")),
    ],
)  # fmt: skip
def test_what_can_be_used_comes_out_in_one_form(how: Read, value: str, expected: object) -> None:
    assert read(value, how) == expected


@pytest.mark.parametrize(
    "value", ["two", "0", "1.5", "-1", "1e3", "1_000", "٣", "２", "²", "9" * 19, "9" * 5000, "1 2"]
)
def test_what_is_no_whole_number_is_named_with_what_to_write(value: str) -> None:
    assert "; write a whole number, 1 or more and at most 1000000000000" in fault(value, number)


@pytest.mark.parametrize("value", ["2m", "0", "-3", "nan", "inf", "1e3", "1,5", "٣", "86401", "9" * 400, ".5", "1."])
def test_what_is_no_number_of_seconds_is_named_with_what_to_write(value: str) -> None:
    assert "; write a number of seconds above 0, at most 86400" in fault(value, seconds)


@pytest.mark.parametrize(
    ("how", "value", "sentence"),
    [
        (switch, "ja", "is 'ja'; write on or off"),
        (site_url, "https://a.org/b", "is 'https://a.org/b'; write the public address with its scheme and"),
        (site_url, "https://me:pw@a.org", "is 'a.org'; write the public address"),
        (site_url, "https://*.a.org", "write the public address"),
        (site_url, "https://my_host", "'my_host' is no host name"),
        (site_url, "https://-a.org", "'-a.org' is no host name"),
        (site_url, "https://a..org", "is no host name"),
        (site_url, "https://256.1.1.1", "is no host name and no address"),
        (site_url, "https://[::g]", "write the public address"),
        (site_url, f"https://{'a' * 64}.org", "is no host name"),
        (site_url, "https://a.org:0", "a port is a number from 1 to 65535"),
        (site_url, "https://a.org:65536", "a port is a number from 1 to 65535"),
        (site_url, "https://a.org:٨٠", "write the public address"),
        (site_url, "https://a.org?x", "write the public address"),
        (hosts, "https://a.org", "holds 'https://a.org'; write hosts alone, without scheme, port or path"),
        (hosts, "a.org:8000", "holds 'a.org:8000'; write hosts alone"),
        (hosts, "*.a.org", "holds '*.a.org'; write hosts alone"),
        (origins, "*", "is '*', which would let every site act as the person logged in"),
        (origins, "app.example.org", "holds 'app.example.org'; write origins such as https://app.example.org"),
        (origins, "https://a.org/app", "holds 'https://a.org/app'; write origins such as"),
        (origins, "https://*.a.org", "write origins such as"),
        (trusted_origins, "*", "is '*'"),
        (trusted_origins, "capacitor://localhost", "write origins such as"),
        (service_url, "api.example.org/v1", "does not begin with http:// or https://"),
        (service_url, "http://me:pw@api.example.org/v1", "holds a name or a password; write the address alone"),
        (service_url, "http:///v1", "names no host"),
        (service_url, "http://a.org:70000/v1", "has a host or a port that cannot be read"),
        (service_url, "http://a.org:0/v1", "names port 0"),
        (service_url, "http://[::1/v1", "has a host or a port that cannot be read"),
        (service_url, "http://a.org/v1 # mine", "holds a blank"),
        (service_url, "http://a.org/v1#mine", "holds a #"),
        (service_url, "http://a.org/v1/chat/completions", "names one call; write the base address"),
        (keys, "sk-…", "is the example's placeholder; write your own key, or take the line away"),
        (keys, "sk-real,<your key>", "is the example's placeholder"),
        (keys, "sk-a b", "holds a blank or a character that no key has; copy the key again"),
        (keys, "sk-ключ", "holds a blank or a character that no key has"),
        (secret_key, "x" * 49, "has 49 characters; 50 or more are needed. `python -c 'import secrets"),
        (secret_key, "x" * 50, "can be guessed: too few different characters"),
        (secret_key, "k3y-" * 20, "can be guessed: too few different characters"),
        (secret_key, "django-insecure-" + SECRET_KEY, "can be guessed"),
        (database, "mysql://me:pw@db/sim", "cannot be used; write sqlite:///PATH or postgres://"),
        (database, "pw", "cannot be used; write sqlite:///PATH or postgres://"),
        (database, "sqlite://", "names no file"),
        (database, "sqlite://:memory:", "has a host or a port that cannot be read"),
        (database, "sqlite:///a#b", "holds a #, which ends a URL; write %23 for it"),
        (database, "sqlite:///a?journal=x", "has options that SQLite does not know (journal)"),
        (database, "sqlite:///a?timeout=soon", "has a timeout that is no whole number"),
        (database, "sqlite:///a?transaction_mode=now", "has an unknown transaction_mode"),
        (database, "postgres://me:pw@db", "names no database"),
        (database, "postgres://me:pw@db:99999/sim", "has a port that cannot be used"),
        (database, "postgres://me:pw@db:x/sim", "has a port that cannot be used"),
        (database, "postgres://me:pw#1@db/sim", "holds a blank or a #"),
        (database, "postgres://me:pw%zz@db/sim", "cannot be read; write postgres://"),
        (database, "postgres://me:pw@db/sim?sslmod=require", "has the unknown option sslmod"),
        (database, "postgres://me:pw@db/sim?connect_timeout=soon", "has a connect_timeout that is no whole number"),
        (redis_url, "127.0.0.1:6379", "does not begin with redis:// or rediss:// or unix://"),
        (redis_url, "redis://:pw@127.0.0.1/cache", "at most the number of a database"),
        (redis_url, "redis:///0", "needs a host"),
        (redis_url, "redis://:pw@127.0.0.1:70000", "has a host or a port that cannot be read"),
        (redis_url, "redis://:pw@127.0.0.1/0?patience=2", "has an option that redis-py does not know"),
        (redis_url, "redis://:pw@127.0.0.1/0?socket_timeout=soon", "has an option that redis-py does not know"),
        (path, "~nobody-of-that-name/var", "begins with the home of somebody who is not known here"),
        (email, "smtp://me:pw@/", "names no host"),
        (email, "imap://me:pw@a.org", "does not begin with"),
        (email, "smtp://me:pw@a.org:port", "has a host or a port that cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_what_to_write_and_without_a_password(
    how: Read, value: str, sentence: str
) -> None:
    found = fault(value, how)
    assert sentence in found
    assert "pw" not in found


def test_a_database_url_holds_what_it_says() -> None:
    at_home = read("postgres://me:p%40ss%2Fw%2B+@[::1]:5433/my%20db?sslmode=require&connect_timeout=2", database)
    assert at_home == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "my db",
        "USER": "me",
        "PASSWORD": "p@ss/w++",
        "HOST": "::1",
        "PORT": "5433",
        "OPTIONS": {"sslmode": "require", "connect_timeout": "2"},
    }
    socket = read("postgresql:///sim?host=/run/postgresql", database)
    assert isinstance(socket, dict)
    assert (socket["HOST"], socket["NAME"], socket["OPTIONS"]) == ("/run/postgresql", "sim", {})
    file = read("sqlite:////srv/a+b%20%23%3F/db.sqlite3?timeout=5&transaction_mode=EXCLUSIVE", database)
    assert file == {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "/srv/a+b #?/db.sqlite3",
        "OPTIONS": {"timeout": 5, "transaction_mode": "EXCLUSIVE"},
    }
    beside = read("sqlite:///data/db.sqlite3", database)
    assert isinstance(beside, dict)
    assert beside["NAME"] == "/srv/site/data/db.sqlite3"


@pytest.mark.parametrize("name", ["a b", "a#b", "a?b", "a%20b", "Профессии", "a+b"])
def test_without_a_database_url_the_file_is_the_one_beside_whatever_the_folder_is_called(name: str) -> None:
    file = Path("/srv") / name / "db.sqlite3"
    assert Environment({}).database("NAME", file, base=BASE)["NAME"] == str(file)


def test_a_mail_url_gives_the_usual_port_and_a_decoded_password() -> None:
    plain = read("smtp://me%40a.org:p%40ss@mail.example.org", email)
    assert isinstance(plain, dict)
    assert (plain["EMAIL_HOST_USER"], plain["EMAIL_HOST_PASSWORD"], plain["EMAIL_PORT"]) == ("me@a.org", "p@ss", 25)
    started = read("smtp+tls://mail.example.org", email)
    assert isinstance(started, dict)
    assert (started["EMAIL_USE_TLS"], started["EMAIL_PORT"]) == (True, 587)


def test_the_host_of_an_address_keeps_the_brackets_of_ipv6() -> None:
    addresses = ("http://[::1]:8000", "http://[::1]", "https://a.org", "http://a.org:1")
    assert [host_of(address) for address in addresses] == ["[::1]", "[::1]", "a.org", "a.org"]


def test_names_that_nothing_asks_for_are_told_from_settings_that_they_resemble() -> None:
    written = ["OPENAI_APIKEY", "OPEN_AI_KEY", "openai_api_key", "ALLOWED_HOST", "PATH", "HOME", "PORT", "HOST", "LANG"]
    environment = Environment(dict.fromkeys([*written, "ALLOW_GUESTS"], "x"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ALLOWED_HOSTS", "ALLOW_GUESTS", "VAR_DIR", "SITE_URL"):
        environment.text(name)
    assert environment.misspelled() == {
        "OPENAI_APIKEY": "OPENAI_API_KEY",
        "OPEN_AI_KEY": "OPENAI_API_KEY",
        "openai_api_key": "OPENAI_API_KEY",
        "ALLOWED_HOST": "ALLOWED_HOSTS",
    }


def test_a_file_of_settings_is_read_as_people_write_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(
        "\ufeff# a comment\r\n\r\nA=http://127.0.0.1/v1    # a comment\r\nB = spaced \r\n"
        'export C="with # and \\"\\\\" # but\r\n'
        "D='single # \\n'\r\nE=key#with#signs\r\n  F=\r\nG= # nothing\r\nH=a=b\r\nI=last\r\nI=wins\rJ=Ж".encode()
    )
    assert values_of(file) == {
        "A": "http://127.0.0.1/v1", "B": "spaced", "C": 'with # and "\\', "D": "single # \\n", "E": "key#with#signs",
        "F": "", "G": "", "H": "a=b", "I": "wins", "J": "Ж",
    }  # fmt: skip
    assert values_of(tmp_path / "none") == {}


@pytest.mark.parametrize(
    "line", ["sk-secret-key", 'KEY="sk-secret', "KEY='a'b", "MY-KEY=sk-secret", "KEY: sk-secret", "A=\0"]
)
def test_a_line_that_cannot_be_read_is_named_by_its_number_and_not_shown(tmp_path: Path, line: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"A=1\n{line}\n")
    with pytest.raises(Unusable, match="line 2, cannot be read; write NAME=VALUE") as raised:
        values_of(file)
    assert "secret" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unusable, match=r"folder cannot be read \(Is a directory\); make it a file"):
        values_of(tmp_path / "folder")
    (tmp_path / "notepad").write_text("A=1", encoding="utf-16")
    with pytest.raises(Unusable, match="notepad is not a text in UTF-8; save it in that encoding"):
        values_of(tmp_path / "notepad")


def test_the_process_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=file\nB=file\nC=file\n")
    process = {"A": "process", "B": ""}
    environment = Environment.load(file, process)
    assert [environment.text(name, "default") for name in "ABC"] == ["process", "default", "file"]
