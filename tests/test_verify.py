"""`manage.py verify`: one line for each check, with what to do, and never a key."""

import html
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import httpx2
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client as DjangoClient

from accounts.models import User
from generation.models import CandidateHealth
from generation.upstream.candidates import key_id
from tests.conftest import KEY, ROOT, SECRET_KEY, Server, ServerStarter
from tests.fake_openai import AS_OPENAI, MODELS, Behaviour, Ending, FakeOpenAI, Refusal
from tests.test_nginx import nginx_before
from tests.waiting import free_port, required


def verify(tmp_path: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command on a database of its own, as an operator would."""
    own = {"VAR_DIR": str(tmp_path), "PATH": "/usr/bin"} | AS_OPENAI | environment
    migrate = [sys.executable, "manage.py", "migrate", "-v", "0"]
    if "DATABASE_URL" not in environment and not (tmp_path / "db.sqlite3").exists():
        subprocess.run(migrate, cwd=ROOT, env=own, check=True)
    command = [sys.executable, "manage.py", "verify", *arguments]
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)


def test_a_site_without_a_key_passes(tmp_path: Path) -> None:
    done = verify(tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"ok   {name}" for name in ("settings", "database", "redis", "mail", "models", "stream")
    ]
    assert "no key is configured" in done.stdout
    assert "ok   stream: an author, for want of a key, wrote 672 characters, stored after" in done.stdout
    assert done.stderr == "", "no line of the log between those of the checks"


def test_a_server_of_ones_own_is_asked_without_any_key(tmp_path: Path, provider: FakeOpenAI) -> None:
    done = verify(tmp_path, OPENAI_BASE_URL=provider.base_url)
    assert f"ok   stream: the model {MODELS[0]} wrote" in done.stdout
    assert done.returncode == 0


def test_each_candidate_is_asked_what_it_can_do(tmp_path: Path, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(text='{"ready": true}')
    provider.route(Behaviour(status=Refusal.NO_ACCESS), model=MODELS[1])
    provider.route(Behaviour(text="I would rather write prose."), model=MODELS[2])
    done = verify(tmp_path, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    assert done.returncode == 1
    assert f"ok   models: openai key 1 {MODELS[0]}: streams, first token after" in done.stdout
    assert f"openai key 1 {MODELS[2]}: streams" in done.stdout
    assert "without json_schema, json_object" in done.stdout
    (failed,) = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert f"openai key 1 {MODELS[1]}: model_not_available: 403" in failed
    assert "Allow the project this model" in failed
    assert KEY not in done.stdout + done.stderr
    assert done.stderr.splitlines() == ["CommandError: 1 of 6 checks failed."]
    formats = [request.body.get("response_format") for request in provider.requests if request.model == MODELS[0]]
    kinds = [isinstance(one, dict) and one["type"] for one in formats]
    assert sorted(map(str, kinds)) == ["False", "False", "json_object", "json_schema"], "the probe's, and the stream's"


def test_what_a_provider_says_cannot_forge_a_line(tmp_path: Path, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(status=Refusal.FORGED)
    done = verify(tmp_path, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    assert "2026-01-01 00:00:00,000 INFO forged" in done.stdout
    assert all(line.startswith(("ok   ", "FAIL ")) for line in done.stdout.splitlines())


def test_a_database_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    address = f"postgres://nobody:secret@127.0.0.1:{free_port()}/none"
    done = verify(tmp_path, DATABASE_URL=address, SECRET_KEY=SECRET_KEY)
    assert done.returncode == 1
    assert "FAIL database: The database none at 127.0.0.1 port" in done.stdout
    assert "Connection refused" in done.stdout
    assert "Look at DATABASE_URL" in done.stdout
    assert "FAIL stream: not checked, because it needs the database." in done.stdout
    assert "secret" not in done.stdout


def test_redis_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    done = verify(tmp_path, REDIS_URL=f"redis://127.0.0.1:{free_port()}", SECRET_KEY=SECRET_KEY)
    assert done.returncode == 1
    assert "FAIL redis: does not answer" in done.stdout
    assert "Look at REDIS_URL" in done.stdout


class Coloured(StreamRequestHandler):
    """Answers each command of Redis with an error that would clear a terminal."""

    def handle(self) -> None:
        for line in self.rfile:
            if line.startswith(b"*"):
                self.wfile.write(b"-ERR \x1b[2J\r\n")


def test_no_service_writes_commands_to_the_terminal(tmp_path: Path) -> None:
    with ThreadingTCPServer(("127.0.0.1", 0), Coloured) as service:
        Thread(target=service.serve_forever, daemon=True).start()
        done = verify(tmp_path, REDIS_URL=f"redis://127.0.0.1:{service.server_address[1]}", SECRET_KEY=SECRET_KEY)
        service.shutdown()
    assert r"FAIL redis: does not answer: ResponseError: \x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def failures(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return dict(re.findall(r"^FAIL (\w+): (.*)$", done.stdout, re.MULTILINE))


def test_whatever_says_nothing_is_given_up_and_named_with_what_to_do(tmp_path: Path, silent: int) -> None:
    done = verify(
        tmp_path,
        *("--seconds", "4"),
        DATABASE_URL=f"postgres://me:secret-one@127.0.0.1:{silent}/sim?connect_timeout=3",
        REDIS_URL=f"redis://:secret-two@127.0.0.1:{silent}/0",
        EMAIL_URL=f"smtp://me:secret-three@127.0.0.1:{silent}",
        OPENAI_BASE_URL=f"http://127.0.0.1:{silent}/v1",
        OPENAI_API_KEY=KEY,
        SECRET_KEY=SECRET_KEY,
    )
    failed = failures(done)
    assert list(failed) == ["database", "redis", "mail", "models", "stream"]
    assert "connection timeout expired. Look at DATABASE_URL" in failed["database"]
    assert "Look at REDIS_URL" in failed["redis"]
    assert "takes no mail: " in failed["mail"]
    assert "provider_timeout: no short answer in time. Look at the base URL" in failed["models"]
    assert not {word for word in ("secret-", KEY, SECRET_KEY) if word in done.stdout + done.stderr}


def test_a_check_that_cannot_be_broken_off_is_left_behind(tmp_path: Path, silent: int) -> None:
    address = f"postgres://me:secret@127.0.0.1:{silent}/sim?connect_timeout=600"
    failed = failures(verify(tmp_path, "--seconds", "1", DATABASE_URL=address, SECRET_KEY=SECRET_KEY))
    assert failed["database"] == (
        "no answer within 1 s. Look at DATABASE_URL, and whether the database answers this machine."
    )


def test_settings_that_cannot_be_used_are_lines_of_their_own(tmp_path: Path) -> None:
    done = verify(tmp_path, DATABASE_URL="postgres://me:secret@db:port/sim", WEB_CONCURRENCY="two")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("FAIL settings: DATABASE_URL has a port that cannot be used")
    assert lines[1].startswith("FAIL settings: WEB_CONCURRENCY is 'two'; write a whole number")
    assert lines[2] == "The other checks need these settings and were not made."
    assert done.returncode == 1
    assert "secret" not in done.stdout + done.stderr


def test_the_stream_is_a_models_where_one_is_configured(tmp_path: Path, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(text="A morning at work begins with tea.")
    done = verify(tmp_path, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    assert f"ok   stream: the model {MODELS[0]} wrote 34 characters, stored after" in done.stdout
    assert provider.requests[-1].last_user_message.startswith("Write one sentence")


def test_a_text_that_an_author_stood_in_for_fails_with_what_to_do(tmp_path: Path, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(text='{"ready": true}')
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url}
    first = verify(tmp_path, **environment, DAILY_TOKEN_BUDGET="1")
    assert first.returncode == 0, "the last text of a day may go over the limit"
    spent = failures(verify(tmp_path, **environment, DAILY_TOKEN_BUDGET="1"))
    assert (
        "the day's tokens are used up, so learners are shown the authors' texts. Raise DAILY_TOKEN" in spent["stream"]
    )
    provider.default = Behaviour(status=Refusal.BAD_KEY)
    refused = failures(verify(tmp_path, **environment))
    assert "no model wrote (no model was available), so learners are shown the authors' texts" in refused["stream"]
    assert "Replace the key" in refused["models"]


def test_a_model_that_only_trickles_is_given_up(tmp_path: Path, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(tokens=("One ",) * 100, tokens_per_second=1)
    failed = failures(verify(tmp_path, "--seconds", "13", OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url))
    assert "provider_timeout: no short answer in time. It writes, so its address is right." in failed["models"]
    assert "no end after 10 s. Look at the lines of the models" in failed["stream"]
    provider.wait_for(lambda fake: all(request.disconnected for request in fake.requests))
    assert cooling_down(tmp_path) == [], "whoever is less patient than learners blames nobody"


def test_a_silent_model_is_blamed_only_by_whoever_waits_as_long_as_a_learner(
    tmp_path: Path, provider: FakeOpenAI
) -> None:
    provider.default = Behaviour(ending=Ending.SILENCE)
    own = {"OPENAI_MODEL": "a-model", "OPENAI_FALLBACK_MODELS": ",", "VARIANT_MODELS": "a-model"}
    own |= {"OPENAI_BASE_URL": provider.base_url}
    assert "no short answer in time" in failures(verify(tmp_path, "--seconds", "5", **own))["models"]
    assert cooling_down(tmp_path) == []
    verify(tmp_path, "--seconds", "5", **own, LLM_FIRST_TOKEN_SECONDS="1")
    assert cooling_down(tmp_path) == ["a-model"]


def cooling_down(folder: Path) -> list[str]:
    """Return the models that are not asked at the moment, on the database that `verify` used."""
    with closing(sqlite3.connect(folder / "db.sqlite3")) as own:
        return [model for (model,) in own.execute("SELECT model FROM generation_candidatehealth WHERE failures > 0")]


def test_a_text_that_never_ends_is_given_up_though_the_model_answered_before(
    tmp_path: Path, provider: FakeOpenAI
) -> None:
    provider.script(*[Behaviour(text='{"ready": true}')] * 3)  # what the line of the models asks
    provider.default = Behaviour(hold_after=1)
    own = {"OPENAI_MODEL": "a-model", "OPENAI_FALLBACK_MODELS": ",", "VARIANT_MODELS": "a-model"}
    failed = failures(verify(tmp_path, "--seconds", "13", OPENAI_BASE_URL=provider.base_url, **own))
    assert list(failed) == ["stream"]
    assert "no end after 10 s. Look at the lines of the models" in failed["stream"]


def test_an_address_that_does_not_lead_to_the_site_is_named_with_what_to_do(tmp_path: Path, silent: int) -> None:
    def proxy(url: str) -> str:
        return failures(verify(tmp_path, "--seconds", "4", "--url", url))["proxy"]

    assert "Look at the name, and whether DNS knows it." in proxy("https://no.such.invalid")
    assert "says nothing for 1 s. Look at the proxy" in proxy(f"http://127.0.0.1:{silent}")
    assert "--url cannot be used: http or https://HOST[:PORT] is wanted" in proxy("try.example.org")
    assert "Look at the address and at the proxy, and whether the site runs." in proxy(
        f"http://127.0.0.1:{free_port()}"
    )


def test_a_proxy_that_hides_https_from_the_site_is_named_and_a_certificate_that_nobody_trusts(
    start_own_server: ServerStarter, tmp_path: Path
) -> None:
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    server = start_own_server(SITE_URL=url)
    certificate = make_certificate(tmp_path)
    environment = {
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "VAR_DIR": str(settings.VAR_DIR),
    }
    with tls_proxy_before(server, port, certificate):
        looping = failures(verify(tmp_path, "--url", url, **environment, SSL_CERT_FILE=str(certificate)))
        untrusted = failures(verify(tmp_path, "--url", url, **environment))
    assert looping["proxy"] == (
        f"the site answers {url}/ with a redirect to itself: the proxy does not say X-Forwarded-Proto: https, or its "
        "address is not in TRUSTED_PROXIES."
    )
    assert "Look at the certificate: browsers refuse it too." in untrusted["proxy"]
    elsewhere = failures(verify(tmp_path, "--url", server.url, **environment))
    assert f"{server.url}/ is a redirect to https://127.0.0.1" in elsewhere["proxy"]
    assert "Give --url, and SITE_URL, the address where the site is." in elsewhere["proxy"]


def make_certificate(folder: Path) -> Path:
    """Return a file with a key and a certificate of 127.0.0.1 that nobody signed."""
    file = folder / "certificate.pem"
    make = [
        required("openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(file)]
    subprocess.run(make, check=True, capture_output=True)
    file.write_text(file.read_text() + (folder / "key.pem").read_text())
    return file


@contextmanager
def tls_proxy_before(server: Server, port: int, certificate: Path) -> Iterator[None]:
    """Run a proxy that ends TLS and says so to nobody."""

    class PassOn(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the standard library's name
            answer = httpx2.get(server.url + self.path, headers={"Host": self.headers["Host"]}, timeout=30)
            self.send_response(answer.status_code)
            for name in ("Content-Type", "Location"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", port), PassOn) as proxy:
        proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
        Thread(target=proxy.serve_forever, daemon=True).start()
        yield
        proxy.shutdown()


def test_a_proxy_that_passes_streams_on_is_told_from_one_that_collects_them(
    authored_server: Server, tmp_path: Path, transactional_db: None
) -> None:
    environment = {
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "VAR_DIR": str(settings.VAR_DIR),
    }
    with nginx_before(authored_server, tmp_path) as url:
        good = verify(tmp_path, "--url", url, **environment)
    assert good.returncode == 0, good.stdout
    assert "ok   proxy" in good.stdout
    with collecting_proxy_before(authored_server) as url:
        bad = verify(tmp_path, "--url", url, **environment)
    assert bad.returncode == 1, bad.stdout
    assert "all at once" in bad.stdout


@contextmanager
def collecting_proxy_before(server: Server) -> Iterator[str]:
    """Give the address of a proxy that passes an answer on when it has all of it."""

    class Collect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the standard library's name
            headers = {"Authorization": self.headers.get("Authorization", "")}
            answer = httpx2.get(server.url + self.path, headers=headers, timeout=30)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collect) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
        proxy.shutdown()


def test_staff_verify_candidates_in_the_admin_and_have_them_asked_again(
    server: Server, provider: FakeOpenAI, transactional_db: None
) -> None:
    staff = User.objects.create_superuser("teacher")
    provider.default = Behaviour(text='{"ready": true}')
    provider.route(Behaviour(status=Refusal.NO_ACCESS), model=MODELS[1])
    for model in MODELS:
        CandidateHealth.objects.get_or_create(provider="openai", key_id=key_id(KEY), model=model)
    chosen = [str(pk) for pk in CandidateHealth.objects.values_list("pk", flat=True)]

    page = act_in_admin(server, staff, "verify", chosen)

    assert f"Openai key 1 {MODELS[0]}: streams, first token after" in page  # the admin capitalizes messages
    assert "Allow the project this model" in page
    assert KEY not in page
    able, refused = CandidateHealth.objects.filter(model__in=MODELS[:2]).order_by("-model")
    assert (able.streams, able.reports_usage, able.writes_json_schema, able.writes_json_object) == (True,) * 4
    assert (refused.streams, refused.fault, refused.failures) == (False, "model_not_available", 1)

    assert "1 candidate is asked again." in act_in_admin(server, staff, "ask_again", chosen)
    assert not CandidateHealth.objects.exclude(failures=0).exists()


def act_in_admin(server: Server, staff: User, action: str, rows: list[str]) -> str:
    """Choose rows of the candidates' page and an action, and give the page that follows."""
    browser = DjangoClient()
    browser.force_login(staff)
    path = f"{server.url}/admin/generation/candidatehealth/"
    with httpx2.Client(cookies={"sessionid": browser.cookies["sessionid"].value}, timeout=30) as http:
        form = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', http.get(path).text)
        assert form is not None
        data = {"csrfmiddlewaretoken": form[1], "action": action, "_selected_action": rows}
        answer = http.post(path, data=data, headers={"Referer": path}, follow_redirects=True)
        assert answer.status_code == 200
        return html.unescape(answer.text)
