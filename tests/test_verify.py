"""`manage.py verify`: one line for each check, with what to do, and never a key."""

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
from django.conf import settings
from django.db import connection
from django.test import Client as DjangoClient

from accounts.models import User
from generation.models import CandidateHealth
from generation.upstream.candidates import key_id
from tests.conftest import KEY, ROOT, Server
from tests.fake_openai import MODELS, Behaviour, FakeOpenAI, Refusal
from tests.test_nginx import nginx_before
from tests.waiting import free_port


def verify(tmp_path: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command on a database of its own, as an operator would."""
    own = {"VAR_DIR": str(tmp_path), "PATH": "/usr/bin"} | environment
    migrate = [sys.executable, "manage.py", "migrate", "-v", "0"]
    if "DATABASE_URL" not in environment:
        subprocess.run(migrate, cwd=ROOT, env=own, check=True)
    command = [sys.executable, "manage.py", "verify", *arguments]
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)


def test_a_site_without_a_key_passes(tmp_path: Path) -> None:
    done = verify(tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"ok   {name}" for name in ("settings", "database", "redis", "models", "stream")
    ]
    assert "no key is configured" in done.stdout


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
    formats = [request.body.get("response_format") for request in provider.requests if request.model == MODELS[0]]
    assert [isinstance(one, dict) and one["type"] for one in formats].count(False) == 1


def test_what_a_provider_says_cannot_forge_a_line(tmp_path: Path, provider: FakeOpenAI) -> None:
    provider.default = Behaviour(status=Refusal.FORGED)
    done = verify(tmp_path, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    assert "2026-01-01 00:00:00,000 INFO forged" in done.stdout
    assert all(line.startswith(("ok   ", "FAIL ")) for line in done.stdout.splitlines())


def test_a_database_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    address = f"postgres://nobody:secret@127.0.0.1:{free_port()}/none"
    done = verify(tmp_path, DATABASE_URL=address, SECRET_KEY="x" * 50)
    assert done.returncode == 1
    assert "FAIL database: default does not answer" in done.stdout
    assert "Look at DATABASE_URL" in done.stdout
    assert "secret" not in done.stdout


def test_redis_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    done = verify(tmp_path, REDIS_URL=f"redis://127.0.0.1:{free_port()}", SECRET_KEY="x" * 50)
    assert done.returncode == 1
    assert "FAIL redis: does not answer" in done.stdout
    assert "Look at REDIS_URL" in done.stdout


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
    assert (refused.streams, refused.fault, refused.strikes) == (False, "model_not_available", 1)

    assert "1 candidate is asked again." in act_in_admin(server, staff, "ask_again", chosen)
    assert not CandidateHealth.objects.exclude(strikes=0).exists()


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
