"""What servers that call themselves compatible with OpenAI's really send, and what is made of it."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from generation.model_request import ModelRequest
from generation.models import Attempt, CandidateHealth, Generation
from generation.upstream import CompletionEnd, Piece, Withdrawn, Working
from generation.upstream.candidates import Candidate
from generation.upstream.chat import Clients
from generation.upstream.faults import UpstreamFault
from professions.models import Profession
from tests.client import Client, shown_text, types_of
from tests.conftest import KEY, Server, ServerStarter, awake
from tests.raw_provider import (
    DONE,
    Body,
    Raw,
    RawProvider,
    end_frame,
    error,
    frame,
    running_provider,
    stream,
    text_frame,
)
from tests.waiting import run_async

QUESTION = "Describe the day, please, in a few words."


@pytest.fixture(scope="module")
def odd() -> Iterator[RawProvider]:
    with running_provider() as provider:
        yield provider


def ask(provider: RawProvider, *, base_url: str = "", thinks_first: bool = False, **wishes: Any) -> list[Piece]:
    """Ask for one text, as an attempt does, and return everything that comes. Raises UpstreamFault."""
    candidate = Candidate("openai", base_url or provider.base_url, KEY, 1, "a-model")
    request = ModelRequest([{"role": "user", "content": QUESTION}], **wishes)

    async def scenario() -> list[Piece]:
        clients = Clients()
        try:
            async with asyncio.timeout(30):
                return [piece async for piece in clients.stream(candidate, request, thinks_first=thinks_first)]
        finally:
            await clients.close()

    return run_async(scenario())


def text_of(pieces: list[Piece]) -> str:
    """Return the text as a reader has it at the end."""
    text = ""
    for piece in pieces:
        text = "" if isinstance(piece, Withdrawn) else text + (piece if isinstance(piece, str) else "")
    return text


def end_of(pieces: list[Piece]) -> CompletionEnd:
    assert isinstance(pieces[-1], CompletionEnd)
    return pieces[-1]


HELLO = text_frame("Hello ")
WORLD = text_frame("world.")
STOP = end_frame()
USAGE = frame({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}})

WHOLE = {
    "as OpenAI sends it": [HELLO, WORLD, STOP, USAGE, DONE],
    "no [DONE]": [HELLO, WORLD, STOP],
    "a last frame without its line end": [HELLO, WORLD, STOP.rstrip()],
    "[DONE] without any reason": [HELLO, WORLD, DONE],
    "lines that end in CR": [b"".join([HELLO, WORLD, STOP, DONE]).replace(b"\n", b"\r")],
    "lines that end in CR LF, cut between the two": [HELLO[:-2] + b"\r", b"\n\r\n" + WORLD + STOP + DONE],
    "a mark of the byte order": [b"\xef\xbb\xbf" + HELLO, WORLD, STOP, DONE],
    "empty frames and pings": [
        b"data:\n\ndata: ping\n\n",
        HELLO,
        b"data: \n\n: x\n\nevent: ping\n\n",
        WORLD,
        STOP,
        DONE,
    ],
    "no blank lines": [HELLO[:-1], WORLD[:-1], STOP[:-1], DONE],
    "no space behind data:": [one.replace(b"data: ", b"data:") for one in (HELLO, WORLD, STOP, DONE)],
    "blanks before data:": [b"\n  " + HELLO, WORLD, STOP, DONE],
    "a frame over several lines": [
        HELLO,
        b'data: {"choices": [{"delta":\ndata: {"content": "world."}, "finish_reason": "stop"}]}\n\n',
        DONE,
    ],
    "a reason with the text": [
        HELLO,
        frame({"choices": [{"delta": {"content": "world."}, "finish_reason": "stop"}]}),
        DONE,
    ],
    "an empty reason in each frame": [
        frame({"choices": [{"delta": {"content": "Hello "}, "finish_reason": ""}]}),
        frame({"choices": [{"delta": {"content": "world."}, "finish_reason": "null"}]}),
        STOP,
        DONE,
    ],
    "several choices": [
        frame({"choices": [{"index": 0, "delta": {"content": "Hello "}}, {"index": 1, "delta": {"content": "no"}}]}),
        frame({"choices": [{"index": 1, "delta": {"content": "no"}}]}),
        WORLD,
        STOP,
        DONE,
    ],
    "parts of content": [
        frame({"choices": [{"delta": {"content": [{"type": "thinking", "thinking": "hm"}]}}]}),
        frame(
            {
                "choices": [
                    {"delta": {"content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "world."}]}}
                ]
            }
        ),
        STOP,
        DONE,
    ],
    "reasoning beside the text": [
        frame({"choices": [{"delta": {"reasoning_content": "They want", "content": None}}]}),
        frame({"choices": [{"delta": {"reasoning": "a greeting.", "content": ""}}]}),
        HELLO,
        WORLD,
        STOP,
        DONE,
    ],
    "thoughts inside, cut anywhere": [
        *(text_frame(one) for one in "<think>They want</think>\n\nHello world."),
        STOP,
        DONE,
    ],
    "thoughts that are opened elsewhere": [
        text_frame("They want a greeting.</think>"),
        text_frame("Hello world."),
        STOP,
    ],
    "thoughts in the middle": [text_frame("Hello <think>hm"), text_frame("</think>world."), STOP, DONE],
    "garbage behind a good end": [
        HELLO,
        WORLD,
        STOP,
        b"data: {broken\n\n",
        b'data: {"error": {"message": "late"}}\n\n',
    ],
    "odd usage behind a good end": [HELLO, WORLD, STOP, frame({"choices": [], "usage": [1]}), DONE],
    "the end of the model's text by another name": [HELLO, WORLD, end_frame("eos_token"), DONE],
    "an unknown reason": [HELLO, WORLD, end_frame("because"), DONE],
    "a completion in one frame": [
        frame(
            {
                "object": "chat.completion",
                "choices": [{"message": {"content": "Hello world."}, "finish_reason": "stop"}],
            }
        )
    ],
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("at_once", [False, True])
def test_a_text_that_was_finished_well_is_whole_whatever_its_form(odd: RawProvider, name: str, at_once: bool) -> None:
    chunks = WHOLE[name]
    odd.always(Raw([b"".join(chunks)] if at_once else chunks))
    assert text_of(ask(odd)) == "Hello world."


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/octet-stream"])
def test_the_content_type_of_a_stream_does_not_matter(odd: RawProvider, kind: str) -> None:
    odd.always(Raw([HELLO, WORLD, STOP, DONE], headers={"Content-Type": kind} if kind else {}))
    assert text_of(ask(odd)) == "Hello world."


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_completion_is_taken_where_a_stream_was_asked_for(odd: RawProvider, kind: str, indent: int) -> None:
    body = {
        "choices": [{"index": 0, "message": {"content": "<think>hm</think>Hello world."}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 9},
    }
    odd.always(Raw([json.dumps(body, indent=indent).encode()], headers={"Content-Type": kind}))
    pieces = ask(odd)
    assert text_of(pieces) == "Hello world."
    assert (end_of(pieces).finish_reason, end_of(pieces).completion_tokens) == ("length", 9)


def test_a_connection_that_is_held_open_behind_the_end_is_not_waited_for(odd: RawProvider) -> None:
    odd.always(Raw([HELLO, WORLD, STOP], stays_open=True))
    assert text_of(ask(odd)) == "Hello world."


def test_a_text_without_end_is_cut(odd: RawProvider) -> None:
    odd.always(stream(*["many words " * 50] * 40))
    pieces = ask(odd, max_tokens=100)
    assert end_of(pieces).finish_reason == "length"
    assert len(text_of(pieces)) < 3000


BROKEN = {
    "the stream just ends": ([HELLO, WORLD], "broken_stream"),
    "only white space": ([text_frame(" \n"), STOP, DONE], "broken_stream"),
    "only thoughts": ([text_frame("<think>They want"), text_frame(" a greeting."), STOP, DONE], "broken_stream"),
    "only reasoning": ([frame({"choices": [{"delta": {"reasoning": "hm"}}]}), STOP, DONE], "broken_stream"),
    "an end that is none": ([HELLO, end_frame("error"), DONE], "broken_stream"),
    "a machine without resources": ([HELLO, end_frame("insufficient_system_resource"), DONE], "broken_stream"),
    "a bad end behind the gateway": ([HELLO, end_frame(native_finish_reason="network_error"), DONE], "broken_stream"),
    "an error inside a choice": (
        [HELLO, frame({"choices": [{"delta": {}, "error": {"code": 502, "message": "upstream"}}]})],
        "provider_error",
    ),
    "a filter": ([HELLO, end_frame("content_filter"), DONE], "content_filtered"),
    "another server's filter": ([HELLO, end_frame("sensitive"), DONE], "content_filtered"),
    "a rate limit inside": ([HELLO, frame({"error": {"code": 429, "message": "slow down"}})], "rate_limited"),
    "vLLM's error inside": (
        [frame({"object": "error", "message": "boom", "type": "InternalServerError", "code": 500})],
        "provider_error",
    ),
    "an unknown error inside": ([HELLO, frame({"error": "something"})], "broken_stream"),
    "an error event": ([b"event: error\n" + frame({"message": "overloaded", "code": "503"})], "provider_error"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_provider_declares_broken_is_never_a_text(odd: RawProvider, name: str) -> None:
    chunks, code = BROKEN[name]
    odd.always(Raw(chunks))
    with pytest.raises(UpstreamFault) as caught:
        ask(odd)
    assert caught.value.code == code
    assert caught.value.status == 200


PAGE = b"<!doctype html><html><head><title>%s</title></head><body>...</body></html>"
ERRORS = [
    (error(401, {"error": {"message": "bad key", "code": "invalid_api_key"}}), "provider_unauthorized", "bad key"),
    (
        error(400, {"error": {"message": "API key not valid. Please pass a valid API key."}}),
        "provider_unauthorized",
        "not valid",
    ),
    (error(400, [{"error": {"code": 400, "message": "API key expired."}}]), "provider_unauthorized", "expired"),
    (error(403, {"error": {"message": "no access to model `x`"}}), "model_not_available", "no access"),
    (error(404, {"error": {"message": 'model "x" not found, try pulling it first'}}), "model_not_available", "pulling"),
    (
        error(400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model"}),
        "model_not_available",
        "Invalid",
    ),
    (error(400, {"error": {"message": "x is not a valid model ID", "code": 400}}), "model_not_available", "model ID"),
    (error(404, {"error": {"message": "No endpoints found for x.", "code": 404}}), "model_not_available", "endpoints"),
    (error(404, {"detail": "Not Found"}), "wrong_address", "Not Found"),
    (error(404, b"404 page not found"), "wrong_address", "404 page not found"),
    (error(404, PAGE % b"Not here"), "wrong_address", "Not here"),
    (error(405, PAGE % b"405 Not Allowed"), "wrong_address", "Not Allowed"),
    (error(301, b"", Location="https://example.org/v1/chat/completions"), "wrong_address", "example.org"),
    (error(307, b"", Location="/login"), "wrong_address", "/login"),
    (error(200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}), "wrong_address", "Unexpected"),
    (error(403, PAGE % b"Attention Required! | Cloudflare"), "provider_unreachable", "Cloudflare"),
    (error(502, PAGE % b"502 Bad Gateway"), "provider_unreachable", "Bad Gateway"),
    (error(200, PAGE % b"Welcome"), "broken_stream", "Welcome"),
    (error(403, {"error": {"message": "Your input was flagged", "code": 403}}), "content_filtered", "flagged"),
    (error(402, {"error": {"message": "requires fewer max_tokens. You can only afford 9"}}), "too_expensive", "afford"),
    (error(402, {"error": {"message": "Insufficient Balance"}}), "quota_exhausted", "Balance"),
    (error(400, {"error": {"message": "Your credit balance is too low"}}), "quota_exhausted", "credit"),
    (error(429, {"detail": "Too many"}), "rate_limited", "Too many"),
    (error(429, {"error": {"message": "no", "code": "insufficient_quota"}}), "quota_exhausted", "no"),
    (error(200, {"error": {"code": 429, "message": "rate limited upstream"}}), "rate_limited", "upstream"),
    (
        error(
            200,
            {"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": '{"detail": "gpu"}'}}},
        ),
        "provider_error",
        "gpu",
    ),
    (
        error(400, {"error": {"message": "the request exceeds the available context size"}}),
        "context_too_long",
        "context",
    ),
    (error(400, {"message": "This model's maximum context length is 2048 tokens."}), "context_too_long", "2048"),
    (error(422, {"detail": [{"loc": ["body", "n"], "msg": "Input should be 1"}]}), "request_refused", "Input should"),
    (error(503, {"error": {"message": "Loading model", "type": "unavailable_error"}}), "provider_error", "Loading"),
    (error(500, b"Internal Server Error"), "provider_error", "Internal"),
]


@pytest.mark.parametrize(("answer", "code", "said"), ERRORS)
def test_what_a_provider_says_decides_what_it_means_and_is_kept(
    odd: RawProvider, answer: Raw, code: str, said: str
) -> None:
    odd.always(answer)
    with pytest.raises(UpstreamFault) as caught:
        ask(odd)
    assert (caught.value.code, caught.value.status) == (code, answer.status)
    assert said in str(caught.value)
    assert said in caught.value.label


@pytest.mark.parametrize("quoted", [QUESTION, QUESTION[5:25]])
def test_a_reason_that_quotes_what_was_asked_is_not_logged(odd: RawProvider, quoted: str) -> None:
    odd.always(error(400, {"error": {"message": f"cannot take: {quoted}"}}))
    with pytest.raises(UpstreamFault) as caught:
        ask(odd)
    assert quoted in str(caught.value)
    assert caught.value.label == "status 400"


@pytest.mark.parametrize(
    ("path", "hint"), [("", "/v1 is missing"), ("/v1", "nothing takes chats at")], ids=["no /v1", "another"]
)
def test_a_wrong_address_is_said_with_what_to_do(odd: RawProvider, path: str, hint: str) -> None:
    odd.always(error(404, {"detail": "Not Found"}))
    with pytest.raises(UpstreamFault) as caught:
        ask(odd, base_url=odd.base_url.removesuffix("/v1") + path)
    words = "looks like the path is missing /v1" if not path else hint
    assert words in str(caught.value)
    assert words in caught.value.label


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 10**7, "completion_tokens": 10**6},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -1, "completion_tokens": True},
        "many",
    ],
)
def test_usage_that_cannot_be_is_not_believed(odd: RawProvider, usage: object) -> None:
    odd.always(Raw([HELLO, WORLD, STOP, frame({"choices": [], "usage": usage}), DONE]))
    end = end_of(ask(odd))
    assert (end.prompt_tokens, end.completion_tokens) == (None, None)


def test_a_model_that_works_on_something_else_than_text_says_so(odd: RawProvider) -> None:
    odd.always(
        Raw(
            [
                frame({"choices": [{"delta": {"reasoning": "hm, well"}}]}),
                text_frame("<think>or"),
                text_frame("</think>Yes."),
                STOP,
            ]
        )
    )
    pieces = ask(odd)
    assert sum(piece.characters for piece in pieces if isinstance(piece, Working)) >= len("hm, well<think>or")


def test_a_model_that_is_known_to_think_first_shows_nothing_of_it(odd: RawProvider) -> None:
    odd.always(stream("They want", " a greeting.", "</think>", "Hello."))
    pieces = ask(odd, thinks_first=True)
    assert [piece for piece in pieces if isinstance(piece, str | Withdrawn)] == ["Hello."]
    odd.always(stream("No thought", " this time."))
    assert text_of(ask(odd, thinks_first=True)) == "No thought this time."


def test_our_own_mistakes_are_a_fault_of_that_candidate(odd: RawProvider) -> None:
    with pytest.raises(UpstreamFault) as caught:
        ask(odd, base_url="http://[::1")
    assert caught.value.code == "candidate_unusable"
    assert caught.value.was_refused


# What the site makes of it


@pytest.fixture(scope="module")
def _odd_server(_start_shared_server: ServerStarter, odd: RawProvider) -> Iterator[Server]:
    server = _start_shared_server(
        OPENAI_API_KEY=KEY, OPENAI_BASE_URL=odd.base_url, OPENAI_MODEL="only", OPENAI_FALLBACK_MODELS=""
    )
    yield server
    server.stop()


@pytest.fixture
def learner(_odd_server: Server, transactional_db: None, alice_token: str) -> Iterator[Client]:
    with awake(_odd_server), Client(_odd_server.url, token=alice_token) as client:
        yield client


REFUSED: dict[str, tuple[list[tuple[str, Raw]], dict[str, object]]] = {
    "a model that reasons": (
        [
            (
                "max_tokens",
                error(
                    400,
                    {
                        "error": {
                            "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                            "'max_completion_tokens' instead.",
                            "param": "max_tokens",
                            "code": "unsupported_parameter",
                        }
                    },
                ),
            ),
            (
                "temperature",
                error(
                    400,
                    {
                        "error": {
                            "message": "Unsupported value: 'temperature' does not support 0.7 with this model. Only "
                            "the default (1) value is supported.",
                            "param": "temperature",
                        }
                    },
                ),
            ),
        ],
        {"max_completion_tokens": 1500},
    ),
    "a strict validator": (
        [
            (
                "stream_options",
                error(
                    422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra"}]}
                ),
            )
        ],
        {"max_tokens": 1500},
    ),
    "a server that fails at it": (
        [("stream_options", error(500, {"error": "unknown field: stream_options"}))],
        {"max_tokens": 1500},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_model_refuses_costs_one_request_once(
    learner: Client, odd: RawProvider, profession: Profession, name: str
) -> None:
    rules, sent = REFUSED[name]

    def answer(body: Body) -> Raw:
        return next((refusal for wish, refusal in rules if wish in body), stream("A text."))

    odd.asked.clear()
    odd.answer = answer
    events = learner.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert (events[-1]["type"], shown_text(events)) == ("done", "A text.")
    assert len(odd.asked) == len(rules) + 1
    assert {name: odd.asked[-1][name] for name in sent} == sent
    health = CandidateHealth.objects.get(model="only")
    assert health.refused == sorted(wish for wish, _ in rules)
    assert (health.failures, health.cooling_until) == (0, None)
    assert [attempt.outcome for attempt in Attempt.objects.order_by("number")] == ["failed"] * len(rules) + [
        "completed"
    ]

    following = learner.events(f"/api/tasks/{events[-1]['data']['task_id']}/submit/stream", body={"answer": "mulch"})
    assert shown_text(following) == "A text."
    assert len(odd.asked) == len(rules) + 2, "nobody pays for it again"

    CandidateHealth.objects.update(refused_at=timezone.now() - timedelta(days=2))
    odd.always(stream("A text."))
    learner.events(f"/api/tasks/{following[-1]['data']['task_id']}/submit/stream", body={"answer": "mulch"})
    assert {"max_tokens", "temperature", "stream_options"} <= odd.asked[-1].keys()
    assert CandidateHealth.objects.get(model="only").refused == [], "it takes everything now"


def test_a_system_role_that_is_refused_becomes_part_of_the_question(
    learner: Client, odd: RawProvider, profession: Profession
) -> None:
    def answer(body: Body) -> Raw:
        if body["messages"][0]["role"] == "system":
            return error(500, {"error": {"code": 500, "message": "System role not supported", "type": "server_error"}})
        return stream("A text.")

    odd.asked.clear()
    odd.answer = answer
    events = learner.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert shown_text(events) == "A text."
    system, user = (message["content"] for message in odd.asked[0]["messages"])
    assert [message["role"] for message in odd.asked[1]["messages"]] == ["user"]
    assert odd.asked[1]["messages"][0]["content"] == f"{system}\n\n{user}"


def test_thoughts_that_were_shown_are_withdrawn_and_the_next_text_shows_none(
    learner: Client, odd: RawProvider, profession: Profession
) -> None:
    thoughtful = stream("They want a task.", "</think>", "A text.")
    odd.always(replace(thoughtful, hold_after=1))
    with learner.stream(f"/api/tasks/profession/{profession.pk}/current/stream") as seen:
        events = seen.until("token")
        odd.go_on.set()
        events += list(seen)
    assert "reset" in types_of(events)
    assert shown_text(events) == Generation.objects.get().text == "A text."
    odd.always(replace(thoughtful, hold_after=1))
    odd.go_on.set()
    following = learner.events(f"/api/tasks/{events[-1]['data']['task_id']}/submit/stream", body={"answer": "mulch"})
    assert "reset" not in types_of(following)
    assert "They want" not in str(following)
    assert "They want" not in str(odd.asked[-1]), "nor is it sent back"


def test_what_is_refused_for_every_text_is_not_asked_by_everybody(
    learner: Client, odd: RawProvider, profession: Profession
) -> None:
    odd.always(error(400, {"error": {"message": "this tenant is not enabled"}}))
    events = learner.events(f"/api/tasks/profession/{profession.pk}/current/stream")
    assert events[-1]["data"]["authored_because"] == "no_candidate"
    learner.events(f"/api/tasks/{events[-1]['data']['task_id']}/submit/stream", body={"answer": "mulch"})
    assert len(odd.asked) == 1
    health = CandidateHealth.objects.get(model="only")
    assert (health.failures, health.fault) == (1, "request_refused")
    assert "tenant" in health.detail


def test_a_connection_that_is_closed_at_the_moment_it_is_used_again_costs_nobody_a_text() -> None:
    """A server may keep connections open and close them whenever it likes, this one at once behind each answer."""
    body = b"".join([HELLO, WORLD, STOP, DONE])
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def answer_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", asked)
        await reader.readexactly(int(length[1]) if length else 0)
        writer.write(head + body)
        await writer.drain()
        writer.close()

    async def scenario() -> list[str]:
        server = await asyncio.start_server(answer_and_close, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        candidate = Candidate("openai", f"http://127.0.0.1:{port}/v1", KEY, 1, "a-model")
        request = ModelRequest([{"role": "user", "content": QUESTION}])
        clients = Clients()
        try:
            return [text_of([piece async for piece in clients.stream(candidate, request)]) for _ in range(50)]
        finally:
            await clients.close()
            server.close()

    assert run_async(scenario()) == ["Hello world."] * 50
