"""A fuzzer reads the OpenAPI schema and tries everything it says, and what it does not say, on the real server.

Its seed is fixed and how long an answer takes decides nothing. It would also be content with a server that lets nobody
in, so each test looks at what was let through.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from accounts.models import User
from accounts.tokens import create_token
from generation.models import Generation
from professions.models import Profession
from tasks.models import Assessment, Simulation, Task
from tests.client import Client
from tests.conftest import Server, make_profession
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.test_refusals import session_of
from tests.waiting import wait_until

EXAMPLES = 12
STREAM_EVENTS = 50
PUBLIC = {"GET /api/professions", "GET /api/professions/{id}"}
FOR_STAFF = {"POST /api/variants/stream"}
CHECKS = {
    "allow_header_conformance",
    "content_type_conformance",
    "ignored_auth",
    "negative_data_rejection",
    "not_a_server_error",
    "positive_data_acceptance",
    "response_headers_conformance",
    "response_schema_conformance",
    "status_code_conformance",
    "unsupported_method",
}
# Where each operation takes an id, and of what.
IDS = {
    "professions_retrieve": ("path.id", "professions"),
    "simulations_create": ("body.profession_id", "professions"),
    "simulations_retrieve": ("path.id", "simulations"),
    "simulations_rewrite_create": ("path.id", "stopped"),
    "tasks_profession_current_retrieve": ("path.profession_id", "professions"),
    "api_tasks_profession_profession_id_current_stream": ("path.profession_id", "professions"),
    "tasks_submit_create": ("path.task_id", "tasks"),
    "api_tasks_task_id_submit_stream": ("path.task_id", "tasks"),
    "tasks_assessment_retrieve": ("path.task_id", "answered"),
    "tasks_assessment_update": ("path.task_id", "unmarked"),
    "tasks_assessment_retry_create": ("path.task_id", "unmarked"),
    "tasks_review_create": ("path.task_id", "answered"),
    "api_tasks_task_id_assessment_stream": ("path.task_id", "answered"),
    "generations_retrieve": ("path.id", "generations"),
    "generations_cancel_create": ("path.id", "generations"),
    "api_generations_id_stream": ("path.id", "generations"),
    "api_variants_stream": ("body.brief_id", "briefs"),
}


# One mark for each criterion of just this answer: found by luck alone.
OF_LUCK = {"PUT /api/tasks/{task_id}/assessment"}
OWN_MARKS = {"body.marks[*].criterion": "criteria", "body.marks[*].points": "points"}


@dataclass
class Visitor:
    """Somebody with simulations to answer, or nobody."""

    user: User | None
    credentials: str = ""


def by_token(user: User) -> str:
    return f'[auth.openapi.token]\nbearer = "{create_token(user)}"'


def by_session(user: User) -> str:
    cookies = f"sessionid={session_of(user)}; csrftoken={'a' * 32}"
    return f'[headers]\nX-CSRFToken = "{"a" * 32}"\nCookie = "{cookies}"'


def nobody() -> Visitor:
    return Visitor(None)


def learner() -> Visitor:
    user = User.objects.create(username="alice")
    return Visitor(user, by_token(user))


def staff() -> Visitor:
    user = User.objects.create_superuser("teacher")
    return Visitor(user, by_token(user))


def staff_in_a_browser() -> Visitor:
    user = User.objects.create_superuser("teacher")
    return Visitor(user, by_session(user))


def play(server: Server, visitor: Visitor) -> None:
    """Leave the visitor with tasks to answer in many professions, answered ones, stopped ones, and a report."""
    professions = [make_profession(f"profession-{number}") for number in range(10)]
    if visitor.user is None:
        return
    with Client(server.url, token=create_token(visitor.user)) as client:
        for profession in professions:
            assert client.get(f"/api/tasks/profession/{profession.pk}/current").status_code == 200
        for _ in range(3):
            task = client.get(f"/api/tasks/profession/{professions[0].pk}/current").json()
            assert client.post(f"/api/tasks/{task['id']}/submit", {"answer": "x"}).status_code == 200
        for profession in professions[4:] * 2:
            task = client.get(f"/api/tasks/profession/{profession.pk}/current").json()
            client.post(f"/api/tasks/{task['id']}/submit", {"answer": "I look at the leaves, and water them."})
    pending = Assessment.objects.filter(status="pending")
    wait_until(lambda: not pending.exists(), what="the marks")
    unmarked = Assessment.objects.filter(submission__task__simulation__profession__in=professions[4:])
    unmarked.update(status="not_marked", because="unusable")
    stopped = Task.objects.filter(submission=None, simulation__profession__in=professions[1:4])
    Generation.objects.filter(task__in=stopped).update(status="cancelled", fault="cancelled")


def configuration(visitor: Visitor, report: Path) -> str:
    """Return the fuzzer's settings, with the ids there are, so that it finds what exists as often as what does not."""
    generations = Generation.objects.values_list("pk", flat=True)
    dictionaries: dict[str, Iterable[object]] = {
        "professions": Profession.objects.values_list("pk", flat=True),
        "briefs": Profession.objects.values_list("briefs", flat=True),
        "tasks": Task.objects.values_list("pk", flat=True),
        "answered": Task.objects.exclude(submission=None).values_list("pk", flat=True),
        "unmarked": Task.objects.filter(submission__assessments__status="not_marked").values_list("pk", flat=True),
        "stopped": Simulation.objects.filter(tasks__generation__status="cancelled").values_list("pk", flat=True),
        "criteria": ["names-the-cause"],
        "points": [0, 2],
        "simulations": Simulation.objects.values_list("pk", flat=True),
        "generations": map(str, generations),
    }
    lines = [
        "seed = 20260101",
        "workers = 1",
        "continue-on-failure = true",
        f"max-stream-events = {STREAM_EVENTS}",
        "request-timeout = 60",
        "warnings = false",
        f"[reports.ndjson]\npath = {json.dumps(str(report))}",
        f'[generation]\ndeterministic = true\nmax-examples = {EXAMPLES}\ndatabase = "none"\nno-shrink = true',
        "[phases.stateful]\nenabled = false",
        "[checks.negative_data_rejection]\nexpected-statuses = [400, 401, 403, 404, 409, 413, 415]",
        visitor.credentials,
    ]
    for name, values in dictionaries.items():
        found = json.dumps(list(values))
        lines += [f"[dictionaries.{name}]\nvalues = {found}"] if found != "[]" else []
    for operation, (place, name) in IDS.items() if visitor.user else ():
        places = {place: name} | (OWN_MARKS if operation == "tasks_assessment_update" else {})
        known = (f'{json.dumps(at)} = {{ dictionary = "{of}", probability = 0.7 }}' for at, of in places.items())
        lines += [
            f"[[operations]]\ninclude-operation-id = {json.dumps(operation)}",
            f"parameters = {{ {', '.join(known)} }}",
        ]
    return "\n".join(lines)


def fuzz(server: Server, visitor: Visitor, folder: Path) -> tuple[dict[str, set[int]], set[str]]:
    """Run the fuzzer and return with which statuses each operation answered, and which checks found it right."""
    report, config = folder / "report.ndjson", folder / "schemathesis.toml"
    config.write_text(configuration(visitor, report), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(config),
        "run",
        f"{server.url}/api/schema",
    ]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    statuses: dict[str, set[int]] = {}
    checks: set[str] = set()
    for line in report.read_text(encoding="utf-8").splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        label: str = recorder.get("label", "")
        found = statuses.setdefault(label, set())
        for asked in recorder.get("interactions", {}).values():
            if label.startswith(asked["request"]["method"]):  # and not a method that the schema does not have
                found.add(asked["response"]["status_code"])
        checks |= {check["name"] for done in recorder.get("checks", {}).values() for check in done}
    return statuses, checks


@pytest.mark.parametrize("visitor", [nobody, learner, staff, staff_in_a_browser])
def test_whatever_is_sent_the_answer_is_one_the_schema_knows(
    server: Server, provider: FakeOpenAI, tmp_path: Path, visitor: Callable[[], Visitor]
) -> None:
    provider.default = Behaviour(text="Two words.")
    who = visitor()
    play(server, who)
    statuses, checks = fuzz(server, who, tmp_path)

    with Client(server.url) as client:
        paths = client.get("/api/schema?format=json").json()["paths"]
    operations = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    may = PUBLIC if who.user is None else operations if who.user.is_staff else operations - FOR_STAFF
    assert operations == set(statuses) - {""}
    assert {name for name in operations if statuses[name] & {200, 201}} | OF_LUCK == may | (OF_LUCK & operations)
    assert all(statuses[name] & {401, 403} for name in operations - may)
    assert checks >= CHECKS


def test_the_names_of_operations_stay_what_clients_were_generated_with(server: Server) -> None:
    with Client(server.url) as client:
        paths = client.get("/api/schema?format=json").json()["paths"]
    found = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
    assert found == set(IDS) | {"professions_list", "simulations_list"}
