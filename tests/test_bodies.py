"""What can be sent instead of a JSON object with an answer: each twin and each form says the same about it."""

import gzip
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator

import pytest
from django.utils import translation
from django.utils.functional import Promise
from rest_framework import exceptions as drf

from professions.models import Profession
from tasks.models import Simulation, Submission, Task
from tasks.running import too_long
from tests.client import Client
from tests.conftest import Server, ServerStarter, new_tokens
from tests.fake_openai import FakeOpenAI
from tests.stores import Postgres
from tests.test_refusals import assert_shape, session_of
from web.problems import from_exception

JSON = {"Content-Type": "application/json"}
TWINS = ["", "/stream"]
LIMIT = 256 * 1024


@pytest.fixture
def task(as_alice: Client, profession: Profession, provider: FakeOpenAI) -> Task:
    as_alice.get(f"/api/tasks/profession/{profession.pk}/current")
    return Task.objects.get()


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("value", ["1e400", "1e5", "7", "true", "false", "null", '["a"]', '{"a": "b"}'])
def test_an_answer_is_a_text_and_nothing_that_could_be_made_one(
    as_alice: Client, task: Task, twin: str, value: str
) -> None:
    body = b'{"answer": %s}' % value.encode()
    response = as_alice.http.post(f"/api/tasks/{task.pk}/submit{twin}", content=body, headers=JSON)
    assert_shape(response, 400, "parse_error" if value == "1e400" else "invalid")
    assert not Submission.objects.exists()


READERS = ["tasks/{task}/submit", "tasks/{task}/submit/stream", "simulations", "variants/stream"]
UNREADABLE = {
    "a name twice": b'{"answer": "a", "answer": "b"}',
    "a name twice further in": b'{"answer": "a", "x": [{"y": 1, "y": 2}]}',
    "a mark of the byte order": b'\xef\xbb\xbf{"answer": "a"}',
    "UTF-16": '{"answer": "a"}'.encode("utf-16"),
    "letters of another encoding": '{"answer": "ä"}'.encode("latin-1"),
    "a number beyond any float": b'{"answer": "a", "n": 1e999}',
    "a number beyond any integer": b'{"answer": "a", "n": %s}' % (b"9" * 5000),
    "a depth without end": b'{"answer": ' + b'{"a":' * 50_000,
    "a constant": b'{"answer": "a", "n": -Infinity}',
    "a raw line break": b'{"answer": "a\nb"}',
    "something behind the end": b'{"answer": "a"} x',
    "nothing": b"",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_two_readers_could_take_for_two_things_is_not_json_here(as_alice: Client, task: Task, name: str) -> None:
    for path in READERS:
        address = "/api/" + path.format(task=task.pk)
        assert_shape(as_alice.http.post(address, content=UNREADABLE[name], headers=JSON), 400, "parse_error")
    assert not Submission.objects.exists()


@pytest.mark.parametrize(
    "body", [rb'{"answer": "\ud800"}', rb'{"\udfff": "a"}', rb'{"language": "\ud83d", "a": ["\\"]}']
)
def test_half_a_character_is_refused_wherever_it_stands(as_alice: Client, task: Task, body: bytes) -> None:
    for path in READERS:
        response = as_alice.http.post("/api/" + path.format(task=task.pk), content=body, headers=JSON)
        assert_shape(response, 400, "invalid")
        assert "surrogate" in response.json()["message"]


def test_a_whole_pair_and_a_backslash_before_a_u_are_ordinary_text(as_alice: Client, task: Task) -> None:
    body = rb'{"answer": "\ud83d\ude00 C:\\ud800"}'
    assert as_alice.http.post(f"/api/tasks/{task.pk}/submit", content=body, headers=JSON).status_code == 200
    assert Submission.objects.get().answer == "😀 C:\\ud800"


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("body", [b"[]", b'"answer"', b"7", b"null"])
def test_what_is_no_object_is_told_so(as_alice: Client, task: Task, twin: str, body: bytes) -> None:
    response = as_alice.http.post(f"/api/tasks/{task.pk}/submit{twin}", content=body, headers=JSON)
    assert_shape(response, 400, "invalid")
    assert list(response.json()["fields"]) == ["non_field_errors"]


OTHER_TYPES = [
    {},
    {"Content-Type": ""},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "application/json; charset=latin-1"},
    {"Content-Type": "application/json-patch+json"},
    {"Content-Type": "application/json", "Content-Encoding": "gzip"},
]


@pytest.mark.parametrize("headers", OTHER_TYPES, ids=str)
def test_only_unpacked_json_in_utf_8_is_taken(as_alice: Client, task: Task, headers: dict[str, str]) -> None:
    body = b'{"answer": "x", "profession_id": 1, "brief_id": 1}'
    if "Content-Encoding" in headers:
        body = gzip.compress(body)
    for path in READERS:
        response = as_alice.http.post("/api/" + path.format(task=task.pk), content=body, headers=headers)
        assert_shape(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("charset", ["; charset=utf-8", ';charset="UTF-8"', "; x=y"])
def test_utf_8_may_be_said(as_alice: Client, task: Task, twin: str, charset: str) -> None:
    headers = {"Content-Type": "application/json" + charset, "Content-Encoding": "identity"}
    body = '{"answer": "ä"}'.encode()
    assert as_alice.http.post(f"/api/tasks/{task.pk}/submit{twin}", content=body, headers=headers).status_code == 200
    assert Submission.objects.get().answer == "ä"


def in_chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


@pytest.mark.parametrize("twin", TWINS)
def test_a_body_in_chunks_arrives_at_both_twins(as_alice: Client, task: Task, twin: str) -> None:
    answer = "word " * 4000
    body = json.dumps({"answer": answer}).encode()
    response = as_alice.http.post(f"/api/tasks/{task.pk}/submit{twin}", content=in_chunks(body), headers=JSON)
    assert response.status_code == 200
    assert Submission.objects.get().answer == answer


EVERYWHERE = [
    *("/api/" + path for path in READERS),
    "/api/generations/{generation}/cancel",
    "/api/nothing",
    "/tasks/{task}/answer",
    "/accounts/login/",
    "/admin/login/",
    "/",
]


@pytest.mark.parametrize("in_pieces", [False, True], ids=["with its length", "in chunks"])
def test_a_body_over_the_limit_gets_413_on_every_address(as_alice: Client, task: Task, in_pieces: bool) -> None:
    body = b"answer=" + b"x" * LIMIT
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in EVERYWHERE:
        address = path.format(task=task.pk, generation=task.generation_id)
        response = as_alice.http.post(address, content=in_chunks(body) if in_pieces else body, headers=headers)
        assert response.status_code == 413, path
        assert ("application/json" if path.startswith("/api") else "text/html") in response.headers["content-type"]
        assert "content-security-policy" in response.headers
    stream = f"/api/generations/{task.generation_id}/stream"
    content = in_chunks(body) if in_pieces else body
    assert as_alice.http.request("GET", stream, content=content).status_code == 413
    assert not Submission.objects.exists()


def test_a_body_just_at_the_limit_is_read(as_alice: Client, task: Task) -> None:
    start, end = b'{"answer": "x", "more": "', b'"}'
    body = start + b"x" * (LIMIT - len(start + end)) + end
    for content in (body, in_chunks(body)):
        assert as_alice.http.post(f"/api/tasks/{task.pk}/submit", content=content, headers=JSON).status_code == 200


def test_a_body_that_is_announced_too_large_is_answered_before_it_is_sent(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"POST /api/simulations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n")
        assert b" 413 " in connection.recv(1000)


@pytest.mark.parametrize("length", [b"-1", b"x", b"1, 2", b"1e3"])
def test_a_length_that_is_none_gets_400(server: Server, length: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(
            b"POST /api/simulations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + length + b"\r\n\r\n"
        )
        assert b" 400 " in connection.recv(1000)


@pytest.mark.parametrize("body", [b'{"profession_id": %d}', b'{"profession_id": -%d}', b'{"profession_id": "%d"}'])
def test_a_number_that_no_row_can_have_is_refused(as_alice: Client, profession: Profession, body: bytes) -> None:
    response = as_alice.http.post("/api/simulations", content=body % 10**30, headers=JSON)
    assert_shape(response, 400, "invalid")
    assert list(response.json()["fields"]) == ["profession_id"]


PATHS = [
    "/api/professions/{}",
    "/api/tasks/profession/{}/current",
    "/api/tasks/profession/{}/current/stream",
    "/api/simulations/{}",
    "/api/generations/{}",
    "/api/generations/{}/stream",
    "/simulations/{}",
    "/simulations/{}/report",
    "/professions/{}",
]
NO_ID = [
    str(2**31),
    str(2**63 - 1),
    str(2**63),
    "9" * 5000,
    "-1",
    "1.0",
    "1e1",
    "0x1",
    "%00",
    "%ED%A0%80",
    "١",
    "a" * 36,
]


@pytest.mark.parametrize("path", PATHS)
def test_what_no_row_can_be_called_is_not_there(as_alice: Client, task: Task, path: str) -> None:
    as_alice.http.cookies.set("sessionid", session_of(task.simulation.user))
    assert [as_alice.get(path.format(one)).status_code for one in NO_ID] == [404] * len(NO_ID)


@pytest.mark.parametrize("cursor", ["%00", "x", "-1", "0-0", "9" * 5000, "%ED%A0%80", "000000000000-9999999999-0"])
def test_a_cursor_of_no_shape_gets_400(as_alice: Client, task: Task, cursor: str) -> None:
    response = as_alice.get(f"/api/generations/{task.generation_id}/stream?after={cursor}")
    assert_shape(response, 400, "bad_cursor")
    raw = as_alice.get(f"/api/generations/{task.generation_id}/stream", **{"Last-Event-ID": cursor})
    assert_shape(raw, 400, "bad_cursor")


@pytest.mark.parametrize("accept", ["text/html", "x", "", ";;;", "application/xml;q=0", "application/json;indent=8"])
@pytest.mark.parametrize("path", ["/api/professions", "/api/professions?format=xml", "/api/professions?format="])
def test_the_api_answers_in_json_whatever_is_preferred(
    as_alice: Client, profession: Profession, accept: str, path: str
) -> None:
    response = as_alice.get(path, Accept=accept)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/x", "/api/professions/", "/api//professions", "/admin/api/x"])
def test_an_address_that_is_not_there_says_so_in_json(as_alice: Client, path: str) -> None:
    assert_shape(as_alice.get(path, Accept="text/html"), 404, "not_found")


def test_no_header_or_field_turns_one_method_into_another(as_alice: Client, task: Task) -> None:
    override = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "GET"}
    response = as_alice.post(f"/api/tasks/{task.pk}/submit?_method=GET", {"answer": "x", "_method": "GET"}, **override)
    assert response.status_code == 200
    assert Submission.objects.get().answer == "x"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/professions", {"GET", "HEAD", "OPTIONS"}),
        ("/api/simulations", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/api/tasks/1/submit", {"OPTIONS", "POST"}),
        ("/api/tasks/1/submit/stream", {"OPTIONS", "POST"}),
    ],
)
def test_options_says_which_methods_there_are(as_alice: Client, path: str, allowed: set[str]) -> None:
    options = as_alice.http.request("OPTIONS", path)
    assert (options.status_code, options.content) == (200, b"")
    refused = as_alice.http.request("PATCH", path)
    assert refused.status_code == 405
    for response in (options, refused):
        assert set(response.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/api/docs", "/api/schema"])
def test_the_schema_and_its_page_take_get_alone(as_alice: Client, path: str) -> None:
    response = as_alice.http.request("OPTIONS", path)
    assert_shape(response, 405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_a_fault_inside_a_list_names_its_place_and_no_python(as_alice: Client, profession: Profession) -> None:
    body = {"brief_id": profession.ordered_briefs[0].pk, "models": ["a", "", 7]}
    response = as_alice.post("/api/variants/stream", body)
    assert_shape(response, 400, "invalid")
    assert response.json()["fields"] == {
        "models.1": ["This field may not be blank."],
        "models.2": ["Not a valid string."],
    }


@pytest.mark.parametrize("value", ["xx", 7, None, ["en"], {"en": "en"}])
def test_a_choice_that_is_none_is_told_without_python(as_alice: Client, profession: Profession, value: object) -> None:
    response = as_alice.post("/api/simulations", {"profession_id": profession.pk, "language": value})
    assert_shape(response, 400, "invalid")
    assert not set("[]{}'") & set(response.json()["fields"]["language"][0])
    assert not Simulation.objects.exists()


REFUSALS: list[Callable[[], drf.APIException]] = [
    lambda: drf.MethodNotAllowed("PUT"),
    lambda: drf.UnsupportedMediaType("x"),
    drf.ParseError,
    drf.NotAcceptable,
    drf.NotFound,
    drf.NotAuthenticated,
    drf.AuthenticationFailed,
    drf.PermissionDenied,
    lambda: drf.ValidationError("x"),
]


@pytest.mark.parametrize("refuse", REFUSALS)
def test_what_drf_says_in_german_is_told_in_english_too(refuse: Callable[[], drf.APIException]) -> None:
    english = from_exception(refuse())
    with translation.override("de"):
        exception = refuse()
        german = from_exception(exception)
        assert english is not None
        assert german is not None
        assert str(exception.detail) not in str(german.body()["detail"])
        assert german.body()["detail"] == english.body()["detail"]


def test_a_sentence_with_numbers_is_put_together_only_when_its_language_is_known() -> None:
    assert isinstance(too_long("x" * 20_001), Promise)


def test_what_no_database_stores_is_refused_where_the_database_would_refuse_it(
    postgres: Postgres, start_own_server: ServerStarter
) -> None:
    environment = {"DATABASE_URL": postgres.url, "SECRET_KEY": secrets.token_urlsafe(64)}
    server = start_own_server(**environment)
    (token,) = new_tokens(1, environment={**os.environ, **environment})
    ((pk,),) = postgres.rows("SELECT id FROM professions_profession WHERE slug = 'nurse'")
    with Client(server.url, token=token) as client:
        task = client.get(f"/api/tasks/profession/{pk}/current").json()["id"]
        for path in PATHS[:6]:
            assert [client.get(path.format(one)).status_code for one in NO_ID] == [404] * len(NO_ID), path
        for answer in (rb"a\u0000b", rb"\ud800", b"\0"):
            for twin in TWINS:
                body = b'{"answer": "%s"}' % answer
                response = client.http.post(f"/api/tasks/{task}/submit{twin}", content=body, headers=JSON)
                assert response.status_code == 400
        assert client.get("/account/tokens/%00/revoke").status_code == 404
        assert client.get("/professions/%00").status_code == 404
    with Client(server.url) as visitor:
        visitor.http.headers["Cookie"] = r'sessionid="\000aaaaaaaaaaa"; csrftoken="\000"; language="\000"'
        assert [visitor.get(path).status_code for path in ("/", "/account", "/api/simulations")] == [200, 302, 401]
    assert " 500 " not in server.log
