"""The lines operators grep, and what no log may hold."""

import re
from collections.abc import Iterator

import pytest

from generation.models import CandidateHealth
from professions.models import Profession
from tests.client import Client
from tests.conftest import KEY, Server, ServerStarter, awake
from tests.fake_openai import Behaviour, FakeOpenAI, Refusal
from tests.waiting import wait_until

UUID = r"[0-9a-f-]{36}"
ROUTER_KEY = "sk-or-v1-0123456789abcdefghijklmnopqrstuvwxyz"


def play(client: Client, profession: Profession, answer: str) -> None:
    events = client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    while events[-1]["type"] == "done":
        events = client.events(f"/api/tasks/{events[-1]['data']['task_id']}/submit/stream", body={"answer": answer})


@pytest.fixture(scope="module")
def debugging_server(start_server: ServerStarter, _provider: FakeOpenAI) -> Server:
    return start_server(
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=_provider.base_url,
        OPENROUTER_API_KEY=ROUTER_KEY,
        OPENROUTER_BASE_URL=_provider.base_url,
        OPENROUTER_MODEL="router",
        DEBUG="1",
        OPENAI_LOG="debug",
        PYTHONASYNCIODEBUG="1",
    )


@pytest.fixture
def debugging_client(
    debugging_server: Server, provider: FakeOpenAI, transactional_db: None, alice_token: str
) -> Iterator[Client]:
    with awake(debugging_server), Client(debugging_server.url, token=alice_token) as client:
        yield client


def test_a_streamed_simulation_leaves_the_contracts_lines(
    as_alice: Client, server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    before = len(server.log)
    play(as_alice, profession, "mulch")
    log = server.log[before:]
    started = re.findall(
        rf"\[STREAMING\] (get_current_task_stream|submit_task_answer_stream) START for user (\d+), "
        rf"profession (\d+) generation={UUID}$",
        log,
        re.MULTILINE,
    )
    assert [name for name, _, _ in started] == ["get_current_task_stream", *["submit_task_answer_stream"] * 3]
    ((_, user, profession_user),) = {("", *row[1:]) for row in started}
    assert profession_user == str(profession.pk)
    patterns = [
        rf"\[TIMING\] First token received at \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} generation={UUID}$",
        rf"\[TIMING\] Time to first token: \d+\.\d{{3}} seconds generation={UUID}$",
        rf"\[TIMING\] OpenAI streaming request total duration: \d+\.\d{{3}} seconds generation={UUID}$",
        rf"\[STREAMING\] Stream completed for user {user}, profession {profession.pk} generation={UUID}$",
    ]
    for pattern in patterns:
        assert len(re.findall(pattern, log, re.MULTILINE)) == 4, pattern


def test_a_client_that_left_is_not_logged_as_a_completed_stream(
    as_alice: Client, server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    before = len(server.log)
    provider.default = Behaviour(hold_after=1)
    with as_alice.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as stream:
        stream.until("token")
    provider.release()
    wait_until(lambda: "total duration" in server.log[before:], what="the text's end in the log")
    assert "Stream completed" not in server.log[before:]


def test_no_log_holds_a_key_a_token_an_answer_or_a_prompt_even_when_debugging(
    debugging_client: Client,
    debugging_server: Server,
    provider: FakeOpenAI,
    profession: Profession,
    alice_token: str,
) -> None:
    provider.script(Behaviour(status=Refusal.BAD_KEY))
    debugging_client.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    play(debugging_client, profession, "my-secret-answer")
    debugging_client.post("/api/tasks/1/submit", {"answer": ["my-secret-answer"]})
    log = debugging_server.log
    assert "DEBUG" in log, "the log is at its most talkative"
    assert ROUTER_KEY in {request.key for request in provider.requests}
    for secret in (
        KEY,
        KEY[3:20],
        ROUTER_KEY,
        ROUTER_KEY[6:24],
        alice_token,
        "my-secret-answer",
        "PLAN 1",
        "You write tasks for a gardener",
    ):
        assert secret not in log
    for text in {request.text_sent for request in provider.requests} - {""}:
        assert text[:40] not in log


def test_a_failure_says_in_one_line_what_the_provider_said(
    as_alice: Client, server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    before = len(server.log)
    provider.script(Behaviour(status=Refusal.NO_ACCESS))
    events = as_alice.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    (line,) = [line for line in server.log[before:].splitlines() if "failed" in line]
    assert "[STREAMING] attempt 1 of 3 failed: model_not_available (status 403, code model_not_found" in line
    assert line.endswith(f"openai key 1 gpt-4o-mini generation={events[-1]['data']['generation_id']}")


def test_one_grep_tells_what_became_of_a_class_whose_key_was_withdrawn(
    as_alice: Client, server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    before = len(server.log)
    provider.default = Behaviour(status=Refusal.BAD_KEY)
    play(as_alice, profession, "mulch")
    lines = [line.partition("[STREAMING] ")[2] for line in server.log[before:].splitlines() if "[STREAMING]" in line]
    story = [re.sub(rf" generation={UUID}$", "", line) for line in lines if "user" not in line]
    shown = "no model was available (provider_unauthorized): the authored text is shown"
    assert story == [
        "attempt 1 of 3: openai key 1 gpt-4o-mini",
        "attempt 1 of 3 failed: provider_unauthorized (status 401, code invalid_api_key: 401 Incorrect API key "
        "provided: [key]. You can find your API key at https://platform.openai.com/account/api-keys.), "
        "openai key 1 gpt-4o-mini",
        "openai key 1 gpt-4o-mini: this key with every model cools down for 600 s because of provider_unauthorized",
        *[shown] * 4,
    ]
    assert len(provider.requests) == 1


def test_only_a_text_that_came_to_its_end_is_called_completed(
    as_alice: Client, server: Server, profession: Profession, provider: FakeOpenAI
) -> None:
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    before = len(server.log)
    profession.briefs.update(authored_text="")
    provider.default = Behaviour(status=Refusal.SERVER_ERROR)
    assert as_alice.events(path)[-1]["type"] == "error"
    provider.default = Behaviour(hold_after=1)
    CandidateHealth.objects.all().delete()
    with as_alice.stream(path) as stream:
        generation = stream.until("token")[0]["data"]["generation_id"]
        as_alice.post(f"/api/generations/{generation}/cancel")
        assert list(stream)[-1]["type"] == "error"
    assert "Stream completed" not in server.log[before:]
    assert server.log[before:].count("get_current_task_stream START") == 2
