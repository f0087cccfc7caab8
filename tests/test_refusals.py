"""What is refused, and in which shape: the contract's, in every place."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from django.test import Client as BrowserOnly
from django.urls import URLPattern, URLResolver, get_resolver
from knox.models import AuthToken

from accounts.models import User
from generation.models import Generation
from professions.models import Profession
from tasks import running
from tasks.models import Simulation, Submission, Task
from tests.client import Client
from tests.conftest import Server, make_profession
from tests.fake_openai import Behaviour, FakeOpenAI

Refusals = list[tuple[str, str, object, int, str]]


def assert_shape(response: httpx2.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert body["code"] == code
    assert set(body) - {"fields"} == {"code", "detail", "message"}
    assert body["detail"]
    assert body["message"]
    assert response.headers["content-type"] == "application/json"


@pytest.fixture
def task(as_alice: Client, profession: Profession, provider: FakeOpenAI) -> Task:
    as_alice.get(f"/api/tasks/profession/{profession.pk}/current")
    return Task.objects.get()


@pytest.mark.parametrize("stream", ["", "/stream"])
class TestBadInput:
    def test_an_unreadable_body_gets_400(self, as_alice: Client, task: Task, stream: str) -> None:
        response = as_alice.http.post(
            f"/api/tasks/{task.pk}/submit{stream}", content=b"{answer", headers={"Content-Type": "application/json"}
        )
        assert_shape(response, 400, "parse_error")

    @pytest.mark.parametrize("body", [{}, {"answer": None}, {"answer": ["a"]}, {"answer": "a\x00b"}, {"text": "a"}])
    def test_a_missing_or_unusable_answer_names_the_field(
        self, as_alice: Client, task: Task, stream: str, body: object
    ) -> None:
        response = as_alice.post(f"/api/tasks/{task.pk}/submit{stream}", body)
        assert_shape(response, 400, "invalid")
        assert list(response.json()["fields"]) == ["answer"]

    def test_half_a_surrogate_pair_is_refused(self, as_alice: Client, task: Task, stream: str) -> None:
        response = as_alice.http.post(
            f"/api/tasks/{task.pk}/submit{stream}",
            content=rb'{"answer": "\ud83d"}',
            headers={"Content-Type": "application/json"},
        )
        assert_shape(response, 400, "invalid")

    def test_an_answer_that_is_too_long_gets_413_and_is_not_stored(
        self, as_alice: Client, task: Task, stream: str
    ) -> None:
        response = as_alice.post(f"/api/tasks/{task.pk}/submit{stream}", {"answer": "x" * 20_001})
        assert_shape(response, 413, "answer_too_long")
        assert as_alice.post(f"/api/tasks/{task.pk}/submit", {"answer": "x" * 20_000}).status_code == 200

    def test_a_body_that_is_too_large_gets_413(self, as_alice: Client, task: Task, stream: str) -> None:
        response = as_alice.post(f"/api/tasks/{task.pk}/submit{stream}", {"answer": "x" * 300_000})
        assert response.status_code == 413
        assert response.json()["code"] in {"too_large", "answer_too_long"}
        assert not Submission.objects.exists()

    def test_the_wrong_method_gets_405(self, as_alice: Client, task: Task, stream: str) -> None:
        response = as_alice.http.put(f"/api/tasks/{task.pk}/submit{stream}", json={"answer": "x"})
        assert_shape(response, 405, "method_not_allowed")

    def test_nobody_in_particular_gets_401(self, server: Server, task: Task, stream: str) -> None:
        with Client(server.url) as nobody:
            response = nobody.get(f"/api/tasks/profession/{task.simulation.profession_id}/current{stream}")
        assert_shape(response, 401, "not_authenticated")
        assert response.headers["WWW-Authenticate"] == "Bearer"

    def test_an_unknown_token_gets_401(self, server: Server, task: Task, stream: str) -> None:
        with Client(server.url, token="nonsense") as stranger:
            response = stranger.post(f"/api/tasks/{task.pk}/submit{stream}", {"answer": "x"})
        assert_shape(response, 401, "invalid_token")

    def test_a_task_that_is_still_being_written_cannot_be_answered(
        self, as_alice: Client, provider: FakeOpenAI, stream: str
    ) -> None:
        other = make_profession("baker")
        provider.default = Behaviour(hold_after=1)
        with as_alice.stream(f"/api/tasks/profession/{other.pk}/current/stream") as open_stream:
            metadata = open_stream.until("metadata")[0]["data"]
            response = as_alice.post(f"/api/tasks/{metadata['id']}/submit{stream}", {"answer": "x"})
        assert_shape(response, 409, "not_ready")
        assert not Submission.objects.exists()

    def test_a_task_of_an_earlier_simulation_cannot_be_answered(
        self, as_alice: Client, task: Task, stream: str
    ) -> None:
        as_alice.post("/api/simulations", {"profession_id": task.simulation.profession_id})
        response = as_alice.post(f"/api/tasks/{task.pk}/submit{stream}", {"answer": "x"})
        assert_shape(response, 409, "not_current")

    def test_a_cross_site_get_starts_nothing(self, as_alice: Client, task: Task, stream: str) -> None:
        other = make_profession("baker")
        del as_alice.http.headers["Authorization"]
        as_alice.http.cookies.set("sessionid", session_of(task.simulation.user))
        response = as_alice.get(f"/api/tasks/profession/{other.pk}/current{stream}", **{"Sec-Fetch-Site": "cross-site"})
        assert_shape(response, 403, "cross_site")
        assert Simulation.objects.count() == 1

    def test_a_session_without_csrf_gets_403(self, as_alice: Client, task: Task, stream: str) -> None:
        del as_alice.http.headers["Authorization"]
        as_alice.http.cookies.set("sessionid", session_of(task.simulation.user))
        response = as_alice.post(f"/api/tasks/{task.pk}/submit{stream}", {"answer": "x"})
        assert_shape(response, 403, "csrf_failed")
        assert not Submission.objects.exists()

    def test_a_session_with_csrf_is_let_through(self, as_alice: Client, task: Task, stream: str) -> None:
        del as_alice.http.headers["Authorization"]
        as_alice.http.cookies.set("sessionid", session_of(task.simulation.user))
        as_alice.http.cookies.set("csrftoken", "a" * 32)
        response = as_alice.post(f"/api/tasks/{task.pk}/submit{stream}", {"answer": "x"}, **{"X-CSRFToken": "a" * 32})
        assert response.status_code == 200

    def test_an_unpublished_profession_is_not_there(self, as_alice: Client, task: Task, stream: str) -> None:
        hidden = make_profession("baker", published=False)
        assert_shape(as_alice.get(f"/api/tasks/profession/{hidden.pk}/current{stream}"), 404, "not_found")

    def test_a_profession_withdrawn_in_the_middle_can_be_finished(
        self, as_alice: Client, task: Task, stream: str
    ) -> None:
        Profession.objects.update(published=False)
        path = f"/api/tasks/profession/{task.simulation.profession_id}/current{stream}"
        assert as_alice.get(path).status_code == 200

    def test_what_is_not_writable_changes_nothing(self, as_alice: Client, task: Task, stream: str) -> None:
        before = Simulation.objects.values().get()
        body = {
            "answer": "x",
            "score": 10,
            "user": 2,
            "user_id": 2,
            "is_staff": True,
            "state": {"trust": 9},
            "deadline": 0,
        }
        assert as_alice.post(f"/api/tasks/{task.pk}/submit{stream}", body).status_code == 200
        assert Simulation.objects.values().get() == before
        assert not User.objects.get(username="alice").is_staff


def test_what_is_not_writable_changes_nothing_in_a_fresh_simulation(
    as_alice: Client, bob: User, profession: Profession
) -> None:
    body = {
        "profession_id": profession.pk,
        "user": bob.pk,
        "user_id": bob.pk,
        "id": 999,
        "is_finished": True,
        "superseded_at": "2020-01-01T00:00:00Z",
        "report": None,
        "marker": "x",
        "state": {"trust": 9},
        "started_at": "2020-01-01T00:00:00Z",
        "is_staff": True,
    }
    assert as_alice.post("/api/simulations", body).status_code == 201
    simulation = Simulation.objects.get()
    assert simulation.user.username == "alice"
    assert simulation.is_current
    assert not simulation.is_finished
    assert simulation.pk != 999
    assert simulation.marker != "x"
    assert simulation.started_at.year > 2020
    assert not User.objects.get(username="alice").is_staff


def session_of(user: User) -> str:
    browser = BrowserOnly()
    browser.force_login(user)
    return browser.cookies["sessionid"].value


def test_unknown_addresses_below_api_answer_in_json_too(as_alice: Client) -> None:
    assert_shape(as_alice.get("/api/nothing"), 404, "not_found")


def test_a_cursor_of_somebody_elses_making_gets_400(as_alice: Client, task: Task) -> None:
    response = as_alice.get(f"/api/generations/{task.generation_id}/stream?after=7")
    assert_shape(response, 400, "bad_cursor")


def test_an_error_is_told_in_english_and_in_the_readers_language(as_alice: Client) -> None:
    body = as_alice.get("/api/generations/00000000-0000-0000-0000-000000000000").json()
    assert body["detail"] == body["message"] == "There is nothing here, or it belongs to somebody else."


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield route
        else:
            yield from routes(entry, route)


OWN = {
    "api/simulations/<int:pk>": "simulation",
    "api/tasks/<int:task_id>/submit": "task",
    "api/tasks/<int:task_id>/submit/stream": "task",
    "api/tasks/<int:task_id>/assessment": "task",
    "api/tasks/<int:task_id>/assessment/stream": "task",
    "api/tasks/<int:task_id>/assessment/retry": "task",
    "api/tasks/<int:task_id>/review": "task",
    "api/generations/<uuid:pk>": "generation",
    "api/generations/<uuid:pk>/stream": "generation",
    "api/generations/<uuid:pk>/cancel": "generation",
    "simulations/<int:pk>": "simulation",
    "simulations/<int:pk>/report": "simulation",
    "simulations/<int:pk>/rewrite": "simulation",
    "api/simulations/<int:pk>/rewrite": "simulation",
    "tasks/<int:pk>/answer": "task",
    "tasks/<int:pk>/debrief": "task",
    "tasks/<int:pk>/marks": "task",
    "tasks/<int:pk>/mark-again": "task",
    "tasks/<int:pk>/review": "task",
    "account/tokens/<slug:pk>/revoke": "token",
}
PUBLIC = {
    "api/professions/<int:pk>",
    "api/tasks/profession/<int:profession_id>/current",
    "api/tasks/profession/<int:profession_id>/current/stream",
    "professions/<slug:slug>",
    "professions/<slug:slug>/start",
}


def test_every_route_with_an_id_is_known_to_be_somebodys_or_everybodys() -> None:
    with_id = {
        route for route in routes(get_resolver()) if "<" in route and not route.startswith(("admin/", "accounts/"))
    }
    assert with_id == set(OWN) | PUBLIC


@pytest.mark.parametrize("route", OWN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stranger_gets_404_on_what_is_alices(as_bob: Client, bob: User, task: Task, route: str, method: str) -> None:
    ids = {"task": task.pk, "simulation": task.simulation_id, "generation": task.generation_id}
    ids["token"] = AuthToken.objects.get(user=task.simulation.user).pk
    path = "/" + route.replace(route[route.index("<") : route.index(">") + 1], str(ids[OWN[route]]))
    del as_bob.http.headers["Authorization"]
    as_bob.http.cookies.set("sessionid", session_of(bob))
    as_bob.http.cookies.set("csrftoken", "a" * 32)

    def asked(method: str) -> int:
        body = b'{"answer": "x", "reason": "x"}' if method == "POST" else None
        headers = {"Content-Type": "application/json", "X-CSRFToken": "a" * 32}
        return as_bob.http.request(method, path, content=body, headers=headers).status_code

    assert asked(method) in {404, 405}
    assert 404 in {asked("GET"), asked("POST")}
    assert not Submission.objects.exists()
    assert Generation.objects.get().status == "completed"


@pytest.mark.parametrize("path", ["/api/generations/{generation}/stream", "/simulations/{simulation}"])
def test_another_sites_page_makes_no_text_begin(
    server: Server, alice: User, profession: Profession, provider: FakeOpenAI, path: str
) -> None:
    simulation = running.open_simulation(user=alice, profession=profession, language="en")
    address = path.format(generation=simulation.current_text.pk, simulation=simulation.pk)
    with Client(server.url) as browser:
        browser.http.cookies.set("sessionid", session_of(alice))
        browser.get(address, **{"Sec-Fetch-Site": "cross-site"})
    assert Generation.objects.get().status == "pending"
    assert provider.requests == []


def test_a_token_opens_the_api_and_no_page(as_alice: Client, alice: User, provider: FakeOpenAI) -> None:
    assert as_alice.get("/api/simulations").status_code == 200
    assert as_alice.get("/simulations").status_code == 302
    assert as_alice.post("/account/tokens").status_code == 403
    assert AuthToken.objects.filter(user=alice).count() == 1


@pytest.mark.parametrize("path", ["/api/simulations", "/api/tasks/{task}/submit", "/api/tasks/{task}/submit/stream"])
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"answer": NaN, "profession_id": NaN}', b"\xff\xfe{}"])
def test_json_that_no_standard_knows_gets_400(as_alice: Client, task: Task, path: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = as_alice.http.post(path.format(task=task.pk), content=body, headers=headers)
    assert_shape(response, 400, "parse_error")


@pytest.mark.parametrize("stream", ["", "/stream"])
def test_a_body_of_another_type_gets_415(as_alice: Client, task: Task, stream: str) -> None:
    response = as_alice.http.post(f"/api/tasks/{task.pk}/submit{stream}", data={"answer": "x"})
    assert_shape(response, 415, "unsupported_media_type")


def test_a_profession_without_tasks_is_neither_listed_nor_a_broken_page(server: Server, provider: FakeOpenAI) -> None:
    make_profession("baker", briefs=0)
    with Client(server.url) as visitor:
        assert "Baker" not in visitor.get("/").text
        page = visitor.get("/professions/baker")
        csrf = {"X-CSRFToken": visitor.http.cookies["csrftoken"]}
        started = visitor.http.post("/professions/baker/start", headers=csrf)
    assert page.status_code == 200
    assert (started.status_code, started.headers["location"]) == (302, "/professions/baker")


@pytest.mark.parametrize("stream", ["", "/stream"])
def test_after_the_end_no_task_takes_another_answer(
    as_alice: Client, task: Task, provider: FakeOpenAI, stream: str
) -> None:
    current = f"/api/tasks/profession/{task.simulation.profession_id}/current"
    for number in range(3):
        body = {"answer": f"answer {number}"}
        assert as_alice.post(f"/api/tasks/{as_alice.get(current).json()['id']}/submit", body).status_code == 200
    for answered in Task.objects.all():
        response = as_alice.post(f"/api/tasks/{answered.pk}/submit{stream}", {"answer": "better"})
        assert_shape(response, 409, "already_submitted")
    assert list(Submission.objects.order_by("pk").values_list("answer", flat=True)) == [
        "answer 0",
        "answer 1",
        "answer 2",
    ]


def test_of_two_answers_at_once_one_is_stored_and_the_other_told_so(as_alice: Client, task: Task) -> None:
    def hand_in(answer: str) -> int:
        return as_alice.post(f"/api/tasks/{task.pk}/submit", {"answer": answer}).status_code

    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(hand_in, ["a", "b", "c", "d"]))
    assert sorted(statuses) == [200, 409, 409, 409]
    assert Submission.objects.get().answer == "abcd"[statuses.index(200)]
