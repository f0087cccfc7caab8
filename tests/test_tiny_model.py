"""llama.cpp's own server with a real small model: the protocol as it is spoken, and `make run MODEL=tiny`."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from accounts.models import User
from generation.models import Attempt, DailyTokens, Generation
from generation.toy import TOY_MODEL
from simulator.tiny_model import CannotRun, TinyModel, start
from tasks.models import Assessment
from tests.client import Client, shown_text
from tests.conftest import PATIENCE, ROOT, Server, ServerStarter, make_marked_profession, make_profession
from tests.test_marking import ANSWER
from tests.test_verify import verify
from tests.waiting import IN_CI, free_port, wait_until

# At temperature 0 it writes the same each time.
AS_TINY = {
    "OPENAI_MODEL": TOY_MODEL,
    "OPENAI_FALLBACK_MODELS": ",",
    "VARIANT_MODELS": TOY_MODEL,
    "LLM_TEMPERATURE": "0",
}


@contextmanager
def running(*, context_tokens: int) -> Iterator[TinyModel]:
    try:
        # With a second thread the two would wait for each other, and for whatever else the machine does, at each token.
        model = start(context_tokens=context_tokens, threads=1)
    except CannotRun as reason:
        (pytest.fail if IN_CI else pytest.skip)(str(reason))
    try:
        yield model
    finally:
        model.stop()


@pytest.fixture(scope="module")
def tiny() -> Iterator[TinyModel]:
    with running(context_tokens=8192) as model:
        yield model


def test_a_whole_simulation_of_five_tasks_and_a_report_is_written_by_it(
    tiny: TinyModel, start_own_server: ServerStarter, alice: User, alice_token: str
) -> None:
    profession = make_profession(briefs=5)
    server = start_own_server(OPENAI_BASE_URL=tiny.base_url, LLM_MAX_TOKENS="60", **AS_TINY)
    with Client(server.url, token=alice_token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
        shown = [shown_text(events)]
        while events[-1]["type"] == "done":
            path = f"/api/tasks/{events[-1]['data']['task_id']}/submit/stream"
            events = client.events(path, body={"answer": "I would look at the roses first, and then ask Amara."})
            shown.append(shown_text(events) or shown_text(events, "report"))
    assert events[-1]["type"] == "completed"
    assert len(shown) == 6
    texts = list(Generation.objects.exclude(kind="assessment").order_by("finished_at"))
    assert [one.text for one in texts] == shown
    assert {(one.status, one.source, one.model) for one in texts} == {("completed", "model", TOY_MODEL)}
    assert all(shown)
    pending = Assessment.objects.filter(status="pending")
    wait_until(lambda: not pending.exists(), what="the marks, or that there are none")
    attempts = Attempt.objects.all()
    assert {(one.outcome, one.http_status, one.tokens_estimated) for one in attempts} == {("completed", 200, False)}
    assert all(0 < (one.completion_tokens or 0) <= 60 for one in attempts)
    assert DailyTokens.objects.get(user=alice).tokens == sum(one.tokens for one in attempts)


def test_it_is_asked_for_marks_by_a_schema_and_what_it_gets_wrong_is_none(
    tiny: TinyModel, start_own_server: ServerStarter, alice_token: str
) -> None:
    nursery = make_marked_profession()
    server = start_own_server(OPENAI_BASE_URL=tiny.base_url, LLM_MAX_TOKENS="150", **AS_TINY)
    with Client(server.url, token=alice_token) as client:
        task = client.get(f"/api/tasks/profession/{nursery.pk}/current").json()["id"]
        client.events(f"/api/tasks/{task}/submit/stream?hold=1", body={"answer": ANSWER})
        events = client.events(f"/api/tasks/{task}/assessment/stream")
    assert events[-1]["type"] == "assessed"
    found = events[-1]["data"]
    assert found["status"] in {"marked", "not_marked"}
    assert found["status"] == "marked" or found["because"] == "unusable"
    text = Generation.objects.get(kind="assessment").text
    named = set(re.findall(r'"criterion":\s*"([^"]*)"', text))
    assert named, "it began as the schema says"
    assert named <= {"names-the-cause", "asks-first", "says-when"}, "the server keeps to the schema by its grammar"
    for event in events[1:-1]:
        assert event["data"]["quotation"] in ANSWER


def test_verify_finds_that_it_streams_counts_and_keeps_to_a_schema(tiny: TinyModel, tmp_path: Path) -> None:
    done = verify(tmp_path, "--seconds", "600", OPENAI_BASE_URL=tiny.base_url, **AS_TINY, **PATIENCE)
    (line,) = [line for line in done.stdout.splitlines() if line[5:].startswith("models:")]
    assert line.startswith(f"ok   models: openai key 1 {TOY_MODEL}: streams, first token after"), done.stdout
    assert "json_schema" not in line.partition("without")[2]
    assert f"ok   stream: the model {TOY_MODEL} wrote" in done.stdout
    assert done.returncode == 0


def test_a_prompt_beyond_its_context_is_said_and_an_author_stands_in(
    start_own_server: ServerStarter, alice_token: str
) -> None:
    profession = make_profession()
    profession.system_prompt = "You write tasks for a gardener. " * 100
    profession.save()
    with running(context_tokens=512) as small:
        server = start_own_server(OPENAI_BASE_URL=small.base_url, LLM_MAX_TOKENS="60", **AS_TINY)
        with Client(server.url, token=alice_token) as client:
            events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert events[-1]["data"]["full_text"] == profession.ordered_briefs[0].authored_text
    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.fault) == ("failed", "context_too_long")
    assert "exceeds the available context size" in attempt.detail


@contextmanager
def launched(folder: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """Run what `make run MODEL=tiny` runs."""
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LLM_"))}
    own = clean | {"VAR_DIR": str(folder), "PYTHONUNBUFFERED": "1", **environment}
    command = [sys.executable, "-m", "simulator.tiny_model", "serve", "--port", str(port), *arguments]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=own, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    server = Server(process, f"http://127.0.0.1:{port}", folder / "log")
    try:
        wait_until(server.answers, what="the server's start")
        yield server
    finally:
        server.stop()


def first_task(url: str) -> tuple[str, str]:
    """Begin as a guest by a form, and return the page with the text when it is whole, and the profession's page."""
    with httpx2.Client(base_url=url, follow_redirects=True, timeout=60) as http:
        page = http.get("/professions/nurse").raise_for_status().text
        token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[-1]
        begun = http.post("/professions/nurse/start", data={"csrfmiddlewaretoken": token}).raise_for_status()

        def is_whole() -> bool:
            return 'data-state="ready"' in http.get(f"{begun.url}?again").raise_for_status().text

        wait_until(is_whole, what="the text", seconds=600)
        return http.get(begun.url).text, page


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_site_on_it_says_that_it_is_a_toy_and_takes_it_along_when_it_ends(
    tmp_path: Path, how: signal.Signals
) -> None:
    with running(context_tokens=512):  # fails where its packages are missing
        pass
    with launched(tmp_path, OPENAI_API_KEY="sk-another", OPENAI_BASE_URL="http://127.0.0.1:9/v1") as server:
        if how == signal.SIGINT:
            task, before = first_task(server.url)
            assert "A toy model writes the tasks" in before
            assert "Written by a toy model" in task
        assert "A tiny model writes on this site: real streams, silly texts." in server.log
        address = address_of_model(server)
        assert answers(address)
        # A Ctrl-C in a terminal reaches the whole group; systemd and an end without notice the one process.
        (os.killpg if how == signal.SIGINT else os.kill)(server.process.pid, how)
        server.process.wait(60)
        wait_until(lambda: not answers(address), what="the model's end")


def address_of_model(server: Server) -> str:
    environment = Path(f"/proc/{server.process.pid}/environ").read_bytes().decode()
    return dict(pair.partition("=")[::2] for pair in environment.split("\0"))["OPENAI_BASE_URL"]


def answers(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/models", timeout=60).is_success
    except (httpx2.NetworkError, httpx2.RemoteProtocolError):
        return False


def test_where_it_does_not_run_the_site_says_so_and_goes_on_without(tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no such instruction set')", encoding="utf-8")
    with launched(tmp_path, PYTHONPATH=str(tmp_path)) as server:
        assert "The tiny model does not run here (ImportError: no such instruction set)." in server.log
        assert "The site goes on without it." in server.log
        task, before = first_task(server.url)
    assert "no language model is connected here" in before
    assert "Written by the authors" in task


def test_make_knows_no_other_model_by_name() -> None:
    refused = subprocess.run(
        ["make", "--dry-run", "run", "MODEL=huge"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "MODEL=tiny is the one that comes with the site" in refused.stderr
