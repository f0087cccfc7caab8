"""The fake provider, as clients see it: the official package where it can be asked, bytes where the layout matters."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI, Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.fake_openai import (
    DEFAULT_TOKENS,
    MODELS,
    Behaviour,
    Ending,
    FakeOpenAI,
    RecordedRequest,
    Refusal,
    awkward_pieces,
    split_into_tokens,
)

ALICE = "sk-test-alice-0001"
BOB = "sk-test-bob-00000002"
MODEL = "gpt-4o-mini"
DEFAULT_ANSWER = "".join(DEFAULT_TOKENS)

# The client's leaving shows within milliseconds; a busy machine is given a hundred times that.
AT_ONCE = 0.5
# A rate so low that no next write can be what shows the client's leaving.
NEVER = 0.01


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def client(fake: FakeOpenAI) -> Iterator[OpenAI]:
    with client_of(fake, key=ALICE) as alice:
        yield alice


def client_of(fake: FakeOpenAI, *, key: str) -> OpenAI:
    return OpenAI(base_url=fake.base_url, api_key=key, max_retries=0, timeout=10)


def async_client_of(fake: FakeOpenAI) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=fake.base_url, api_key=ALICE, max_retries=0, timeout=10)


def ask(client: OpenAI, text: str = "Hello", *, model: str = MODEL) -> ChatCompletion:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])


def stream(client: OpenAI, text: str = "Hello") -> Stream[ChatCompletionChunk]:
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], stream=True)


def contents(chunks: Iterator[ChatCompletionChunk]) -> Iterator[str]:
    """The texts as they come, without the empty ones of the first and last chunk."""
    return (choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content)


def read(chunks: Iterator[ChatCompletionChunk], count: int) -> list[str]:
    pieces = contents(chunks)
    return [next(pieces) for _ in range(count)]


def text_of(completion: ChatCompletion) -> str | None:
    return completion.choices[0].message.content


def the_request(fake: FakeOpenAI) -> RecordedRequest:
    assert len(fake.requests) == 1
    return fake.requests[0]


def chat_body(**more: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], **more}


def post(fake: FakeOpenAI, **more: object) -> httpx2.Response:
    return httpx2.post(f"{fake.base_url}/chat/completions", json=chat_body(**more))


def frames(body: bytes) -> list[bytes]:
    *whole, rest = body.split(b"\n\n")
    assert rest == b""
    assert all(frame.startswith(b"data: ") for frame in whole)
    return [frame.removeprefix(b"data: ") for frame in whole]


def receive(fake: FakeOpenAI, **more: object) -> list[bytes]:
    """What a raw socket gets for a streaming request until the server closes, one item for each read."""
    body = json.dumps(chat_body(stream=True, **more)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: fake\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", fake.port), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        return list(iter(lambda: connection.recv(65536), b""))


def test_a_stream_brings_role_tokens_finish_reason_and_usage(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(tokens=("Hel", "lo", " 👋"), cached_tokens=7)
    with client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
    ) as chunks:
        first, *tokens, last, usage = list(chunks)
    assert first.choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in tokens] == ["Hel", "lo", " 👋"]
    assert (last.choices[0].delta.content, last.choices[0].finish_reason) == (None, "stop")
    assert usage.choices == []
    assert usage.usage is not None
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens, usage.usage.total_tokens) == (7, 3, 10)
    assert usage.usage.prompt_tokens_details is not None
    assert usage.usage.prompt_tokens_details.cached_tokens == 7
    assert {chunk.id for chunk in (first, *tokens, last, usage)} == {first.id}
    assert {chunk.model for chunk in (first, *tokens, last, usage)} == {MODEL}


def test_the_bytes_of_a_stream_are_laid_out_as_openai_does(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(tokens=("Ł",))
    options = {"include_usage": True, "include_obfuscation": False}
    response = post(fake, stream=True, stream_options=options)
    role, content, finish, usage, done = frames(response.content)
    head, choices = content.split(b'"choices":')
    pattern = (
        rb'{"id":"chatcmpl-\w{29}","object":"chat.completion.chunk","created":\d+,"model":"gpt-4o-mini",'
        rb'"service_tier":"default","system_fingerprint":"fp_\w{10}",'
    )
    assert re.fullmatch(pattern, head)
    expected = '[{"index":0,"delta":{"content":"Ł"},"logprobs":null,"finish_reason":null}],"usage":null}'
    assert choices == expected.encode()
    assert b'"delta":{"role":"assistant","content":"","refusal":null}' in role
    assert b'"delta":{},"logprobs":null,"finish_reason":"stop"' in finish
    assert b'"choices":[],"usage":{"prompt_tokens":8,' in usage
    assert done == b"[DONE]"
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_usage_comes_only_when_asked_for_and_padding_unless_refused(fake: FakeOpenAI) -> None:
    body = post(fake, stream=True).content
    assert b'"usage"' not in body
    assert body.count(b'"obfuscation":"') == len(DEFAULT_TOKENS) + 2


def test_a_whole_answer_has_text_finish_reason_and_usage(fake: FakeOpenAI, client: OpenAI) -> None:
    completion = ask(client)
    assert text_of(completion) == DEFAULT_ANSWER
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == len(DEFAULT_TOKENS)
    assert the_request(fake).finished
    assert not the_request(fake).stream


def test_the_async_client_gets_the_same(fake: FakeOpenAI) -> None:
    async def both() -> tuple[str | None, str]:
        async with async_client_of(fake) as client:
            whole = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
            chunks = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            return text_of(whole), "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    assert asyncio.run(both()) == (DEFAULT_ANSWER, DEFAULT_ANSWER)


def test_the_default_is_a_plausible_task_in_some_sixty_tokens() -> None:
    assert 55 <= len(DEFAULT_TOKENS) <= 70
    assert DEFAULT_ANSWER.startswith("## ")
    assert DEFAULT_ANSWER.endswith("?")
    assert "👩‍🍳" in DEFAULT_ANSWER
    assert "Извините" in DEFAULT_ANSWER


@pytest.mark.parametrize(
    "text",
    ["", "a_b  c\n\n\td", "½ x² 12345", "مرحبا بالعالم؟", "🇩🇪👩‍👩‍👧‍👦 \u2028 é e\u0301", "data: x\n\ndata: [DONE]"],
)
def test_tokens_add_up_to_the_text(fake: FakeOpenAI, client: OpenAI, text: str) -> None:
    assert "".join(split_into_tokens(text)) == text
    fake.default = Behaviour(text=text)
    with stream(client) as chunks:
        assert "".join(contents(chunks)) == text


def test_text_and_tokens_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude"):
        Behaviour(text="a", tokens=("a",))


def test_the_models_are_listed(client: OpenAI) -> None:
    assert tuple(model.id for model in client.models.list()) == MODELS


def test_every_response_has_its_request_id(fake: FakeOpenAI) -> None:
    fake.script(Behaviour(), Behaviour(), Behaviour(status=Refusal.SERVER_ERROR), Behaviour(ending=Ending.HTML))
    responses = [post(fake, stream=True), post(fake), post(fake), post(fake)]
    responses += [httpx2.get(f"{fake.base_url}/models"), httpx2.get(f"{fake.base_url}/nothing")]
    assert [response.status_code for response in responses] == [200, 200, 500, 200, 200, 404]
    assert [response.headers["x-request-id"] for response in responses] == [r.request_id for r in fake.requests]
    assert len({request.request_id for request in fake.requests}) == 6


@pytest.mark.parametrize(
    ("refusal", "kind", "status", "code", "message"),
    [
        (Refusal.BAD_KEY, openai.AuthenticationError, 401, "invalid_api_key", "provided: sk-test-******0001. You can"),
        (
            Refusal.NO_ACCESS,
            openai.PermissionDeniedError,
            403,
            "model_not_found",
            "Project `proj_x` does not have access to model `gpt-4o-mini`",
        ),
        (Refusal.RATE_LIMIT, openai.RateLimitError, 429, "rate_limit_exceeded", "Rate limit reached for gpt-4o-mini"),
        (Refusal.NO_QUOTA, openai.RateLimitError, 429, "insufficient_quota", "You exceeded your current quota"),
        (Refusal.SERVER_ERROR, openai.InternalServerError, 500, None, "The server had an error"),
        (Refusal.OVERLOADED, openai.InternalServerError, 503, None, "currently overloaded"),
        (Refusal.CONTEXT_LENGTH, openai.BadRequestError, 400, "context_length_exceeded", "resulted in 8 tokens"),
        (Refusal.CONTENT_FILTER, openai.BadRequestError, 400, "content_filter", "content management policy"),
    ],
)
@pytest.mark.parametrize("streaming", [True, False])
def test_a_refusal_looks_as_openai_words_it(
    fake: FakeOpenAI,
    client: OpenAI,
    *,
    refusal: Refusal,
    kind: type[openai.APIStatusError],
    status: int,
    code: str | None,
    message: str,
    streaming: bool,
) -> None:
    fake.default = Behaviour(status=refusal)
    with pytest.raises(kind) as caught:
        stream(client) if streaming else ask(client)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert message in caught.value.message
    assert caught.value.request_id == the_request(fake).request_id
    assert "retry-after" not in caught.value.response.headers
    assert the_request(fake).status == status
    assert the_request(fake).finished


def test_a_rate_limit_says_when_to_come_back(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(status=Refusal.RATE_LIMIT, retry_after=1.5)
    with pytest.raises(openai.RateLimitError, match=r"Please try again in 1\.5s") as caught:
        ask(client)
    assert caught.value.response.headers["retry-after"] == "2"
    assert caught.value.response.headers["retry-after-ms"] == "1500"


def test_azures_content_filter_brings_its_reasons(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(status=Refusal.CONTENT_FILTER)
    error = post(fake).json()["error"]
    assert (error["type"], error["param"]) == (None, "prompt")
    assert error["innererror"]["code"] == "ResponsibleAIPolicyViolation"


def test_keys_that_are_not_known_are_not_let_in_and_use_up_no_script(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.keys = {ALICE}
    fake.script(Behaviour(text="for alice"))
    with client_of(fake, key="sk-abcdeyz") as stranger, pytest.raises(openai.AuthenticationError) as caught:
        ask(stranger)
    assert "Incorrect API key provided: sk-ab***yz. You can find" in caught.value.message
    assert text_of(ask(client)) == "for alice"


def test_no_key_where_one_is_needed_has_words_of_its_own(fake: FakeOpenAI) -> None:
    fake.keys = {ALICE}
    response = httpx2.get(f"{fake.base_url}/models")
    assert response.status_code == 401
    assert response.json()["error"]["message"].startswith("You didn't provide an API key.")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "We could not parse the JSON body"),
        (b"[]", "We could not parse the JSON body"),
        (b'{"messages": []}', "you must provide a model parameter"),
        (b'{"model": "m", "messages": []}', "Missing required parameter: 'messages'."),
    ],
)
def test_a_request_that_openai_would_not_take_gets_400(fake: FakeOpenAI, body: bytes, message: str) -> None:
    response = httpx2.post(f"{fake.base_url}/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


def test_an_unknown_address_gets_404(fake: FakeOpenAI) -> None:
    response = httpx2.post(f"{fake.base_url}/completions", json={})
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "Invalid URL (POST /v1/completions)"


@pytest.mark.parametrize(("ending", "reason"), [(Ending.LENGTH, "length"), (Ending.CONTENT_FILTER, "content_filter")])
def test_an_answer_cut_short_says_so(fake: FakeOpenAI, client: OpenAI, ending: Ending, reason: str) -> None:
    fake.default = Behaviour(tokens=("a", "b", "c"), ending=ending, after_tokens=2)
    with stream(client) as chunks:
        *_, last = seen = list(chunks)
    assert "".join(contents(iter(seen))) == "ab"
    assert last.choices[0].finish_reason == reason
    whole = ask(client)
    assert (text_of(whole), whole.choices[0].finish_reason) == ("ab", reason)


def test_a_stream_without_finish_reason_ends_cleanly_and_the_client_notices_nothing(
    fake: FakeOpenAI, client: OpenAI
) -> None:
    fake.default = Behaviour(tokens=("a", "b", "c"), ending=Ending.NO_FINISH_REASON, after_tokens=2)
    with stream(client) as chunks:
        seen = list(chunks)
    assert "".join(contents(iter(seen))) == "ab"
    assert {choice.finish_reason for chunk in seen for choice in chunk.choices} == {None}
    body = b"".join(receive(fake))
    assert body.endswith(b"\r\n0\r\n\r\n")
    assert b"[DONE]" not in body


def test_a_reset_cuts_the_connection_in_the_middle(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(ending=Ending.RESET, after_tokens=3, hold_after=3)
    with stream(client) as chunks:
        assert read(chunks, 3) == list(DEFAULT_TOKENS[:3])
        fake.release()
        with pytest.raises(openai.APIConnectionError):
            list(chunks)
    assert the_request(fake).finished
    assert not the_request(fake).disconnected


def test_a_reset_is_a_real_one(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(ending=Ending.RESET, after_tokens=3)
    with pytest.raises(ConnectionResetError):
        receive(fake)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_reset_at_once_comes_before_the_headers(fake: FakeOpenAI, client: OpenAI, *, streaming: bool) -> None:
    fake.default = Behaviour(ending=Ending.RESET)
    with pytest.raises(openai.APIConnectionError):
        stream(client) if streaming else ask(client)


def test_an_error_object_in_the_stream_raises_without_a_status(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(ending=Ending.ERROR_OBJECT, after_tokens=2)
    with stream(client) as chunks:
        assert read(chunks, 2) == list(DEFAULT_TOKENS[:2])
        with pytest.raises(openai.APIError, match="The server had an error") as caught:
            list(chunks)
    assert type(caught.value) is openai.APIError
    assert caught.value.type == "server_error"


def test_broken_json_in_the_stream_raises_what_json_raises(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(ending=Ending.BROKEN_JSON, after_tokens=2)
    with stream(client) as chunks:
        assert read(chunks, 2) == list(DEFAULT_TOKENS[:2])
        with pytest.raises(json.JSONDecodeError):
            list(chunks)


def test_after_broken_json_the_stream_ends_as_if_nothing_were_missing(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(ending=Ending.BROKEN_JSON, after_tokens=2)
    _role, _one, _two, broken, finish, done = frames(post(fake, stream=True).content)
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken)
    assert json.loads(finish)["choices"][0]["finish_reason"] == "stop"
    assert done == b"[DONE]"


def test_a_page_instead_of_a_stream_is_an_empty_stream_for_the_client(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(ending=Ending.HTML)
    with stream(client) as chunks:
        assert list(chunks) == []
    response = post(fake, stream=True)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("after", [0, 2])
def test_silence_sends_the_headers_and_then_nothing(fake: FakeOpenAI, after: int) -> None:
    fake.default = Behaviour(ending=Ending.SILENCE, after_tokens=after)
    with (
        OpenAI(base_url=fake.base_url, api_key=ALICE, max_retries=0, timeout=0.2) as impatient,
        stream(impatient) as chunks,
    ):
        assert chunks.response.status_code == 200
        assert read(chunks, after) == list(DEFAULT_TOKENS[:after])
        with pytest.raises(openai.APITimeoutError):
            next(chunks)
    fake.wait_for(lambda f: f.requests[0].disconnected)


def test_comments_reach_no_reader_and_keep_the_read_timeout_from_firing(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(ending=Ending.COMMENTS_ONLY, after_tokens=1, comment_interval=0.005)

    async def listen() -> None:
        async with AsyncOpenAI(base_url=fake.base_url, api_key=ALICE, max_retries=0, timeout=0.1) as client:
            chunks = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            await anext(chunks)
            assert (await anext(chunks)).choices[0].delta.content == DEFAULT_TOKENS[0]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(chunks), 0.4)

    asyncio.run(listen())
    fake.wait_for(lambda f: f.requests[0].disconnected)


def test_comments_are_openrouters(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(ending=Ending.COMMENTS_ONLY, comment_interval=0.005)
    with httpx2.stream("POST", f"{fake.base_url}/chat/completions", json=chat_body(stream=True)) as response:
        lines = response.iter_lines()
        assert [next(lines) for _ in range(6)] == [": OPENROUTER PROCESSING", ""] * 3


def test_faults_of_a_whole_answer(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.script(Behaviour(ending=Ending.BROKEN_JSON, after_tokens=9), Behaviour(ending=Ending.ERROR_OBJECT))
    fake.script(Behaviour(ending=Ending.HTML), Behaviour(ending=Ending.RESET, after_tokens=9))
    with pytest.raises(json.JSONDecodeError):
        ask(client)
    assert "error" in post(fake).json()
    assert post(fake).text.startswith("<!DOCTYPE html>")
    with pytest.raises(openai.APIConnectionError):
        ask(client)


def test_a_whole_answer_may_never_come(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(ending=Ending.SILENCE)
    with (
        OpenAI(base_url=fake.base_url, api_key=ALICE, max_retries=0, timeout=0.2) as impatient,
        pytest.raises(openai.APITimeoutError),
    ):
        ask(impatient)
    fake.wait_for(lambda f: f.requests[0].disconnected)
    assert the_request(fake).status == 200


def test_tokens_come_at_their_pace_after_the_first_ones_delay(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(tokens=("a",) * 11, tokens_per_second=100, first_token_delay=0.1)
    began = time.monotonic()
    with stream(client) as chunks:
        read(chunks, 1)
        assert time.monotonic() - began >= 0.1
        list(chunks)
    assert time.monotonic() - began >= 0.2


def test_a_whole_answer_takes_as_long_as_its_tokens(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(tokens=("a",) * 11, tokens_per_second=100, first_token_delay=0.1)
    began = time.monotonic()
    ask(client)
    assert time.monotonic() - began >= 0.2


def test_a_held_stream_goes_on_when_released(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(tokens=("a", "b", "c"), hold_after=2)
    with stream(client) as chunks:
        assert read(chunks, 2) == ["a", "b"]
        fake.wait_for(lambda f: f.requests[0].held)
        assert the_request(fake).tokens_sent == ["a", "b"]
        assert fake.open_streams == 1
        fake.release()
        assert list(contents(chunks)) == ["c"]
    assert the_request(fake).text_sent == "abc"
    assert the_request(fake).finished
    assert not the_request(fake).held
    assert fake.open_streams == 0


def test_a_hold_at_nought_comes_before_the_first_token(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(hold_after=0)
    with stream(client) as chunks:
        fake.wait_for(lambda f: f.requests[0].held)
        assert the_request(fake).tokens_sent == []
        fake.release()
        assert "".join(contents(chunks)) == DEFAULT_ANSWER


def test_a_release_before_the_hold_is_not_lost(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(first_token_delay=0.2, hold_after=1)
    with stream(client) as chunks:
        fake.release()
        assert "".join(contents(chunks)) == DEFAULT_ANSWER


def test_one_of_two_parallel_streams_is_released_alone(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.script(Behaviour(text="one two", hold_after=1), Behaviour(text="three four", hold_after=1))
    with stream(client, "first") as first, stream(client, "second") as second:
        assert read(first, 1) + read(second, 1) == ["one", "three"]
        fake.wait_for(lambda f: f.open_streams == 2 and all(request.held for request in f.requests))
        fake.release(fake.requests[1])
        assert list(contents(second)) == [" four"]
        assert fake.requests[0].held
        fake.release()
        assert list(contents(first)) == [" two"]
    assert [request.last_user_message for request in fake.requests] == ["first", "second"]


def test_a_whole_answer_can_be_held_too(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(text="here", hold_after=0)

    async def ask_and_release() -> str | None:
        async with async_client_of(fake) as client:
            asking = asyncio.create_task(
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
            )
            await asyncio.to_thread(fake.wait_for, lambda f: len(f.requests) == 1 and f.requests[0].held)
            fake.release()
            return text_of(await asking)

    assert asyncio.run(ask_and_release()) == "here"


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(hold_after=1),
        Behaviour(ending=Ending.SILENCE, after_tokens=1),
        Behaviour(tokens_per_second=NEVER),
        Behaviour(ending=Ending.COMMENTS_ONLY, after_tokens=1, comment_interval=1 / NEVER),
    ],
    ids=["held", "silent", "slow", "commenting"],
)
def test_a_client_that_leaves_is_noticed_at_once(fake: FakeOpenAI, client: OpenAI, behaviour: Behaviour) -> None:
    fake.default = behaviour
    with stream(client) as chunks:
        read(chunks, 1)
        left = time.monotonic()
    fake.wait_for(lambda f: f.requests[0].disconnected)
    ended = the_request(fake).ended_at
    assert ended is not None
    assert ended - left < AT_ONCE
    assert the_request(fake).tokens_sent == [DEFAULT_TOKENS[0]]
    assert not the_request(fake).finished
    assert fake.open_streams == 0


def test_a_cancelled_task_is_a_client_that_leaves(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(first_token_delay=1 / NEVER)

    async def wait_for_ever() -> None:
        async with async_client_of(fake) as client:
            chunks = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            async for _ in chunks:
                pass

    async def cancel_it() -> None:
        waiting = asyncio.create_task(wait_for_ever())
        await asyncio.to_thread(fake.wait_for, lambda f: f.open_streams == 1 and f.requests[0].status == 200)
        waiting.cancel()
        await asyncio.to_thread(fake.wait_for, lambda f: f.requests[0].disconnected, AT_ONCE)

    asyncio.run(cancel_it())


def test_a_client_that_leaves_a_full_pipe_is_noticed_too(fake: FakeOpenAI) -> None:
    fake.default = Behaviour(tokens=("x" * 100_000,) * 400)
    with httpx2.stream("POST", f"{fake.base_url}/chat/completions", json=chat_body(stream=True)):
        fake.wait_for(lambda f: len(f.requests[0].tokens_sent) > 0)
    fake.wait_for(lambda f: f.requests[0].disconnected)
    assert len(the_request(fake).tokens_sent) < 400


def test_a_client_that_leaves_a_fast_stream_is_noticed_too(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(tokens=("x",) * 100_000, hold_after=1)
    # Leaving just after the release, it is as a rule a write that finds out. Ten times, since that is a race.
    for _ in range(10):
        with stream(client) as chunks:
            read(chunks, 1)
            fake.release()
    fake.wait_for(lambda f: all(request.disconnected for request in f.requests))


def test_a_fast_answer_lets_others_have_their_turn(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(tokens=("x",) * 2_000_000, hold_after=0)
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, client)
        fake.wait_for(lambda f: len(f.requests) == 1 and f.requests[0].held)
        fake.release()
        httpx2.get(f"{fake.base_url}/models")
        assert text_of(asking.result()) == "x" * 2_000_000
    long, short = fake.requests
    assert long.ended_at is not None
    assert short.received_at < long.ended_at


def test_long_prompts_are_taken(fake: FakeOpenAI, client: OpenAI) -> None:
    ask(client, "word " * 1_000_000)
    assert the_request(fake).prompt_tokens == 1_250_007


def test_split_frames_arrive_cut_inside_characters_and_frames(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(split_frames=True)
    reads = receive(fake)
    assert len(reads) > len(DEFAULT_TOKENS)
    assert any(piece.endswith(b"da\r\n") for piece in reads)
    assert any(not _decodes(piece) for piece in reads)
    with stream(client) as chunks:
        assert "".join(contents(chunks)) == DEFAULT_ANSWER


def _decodes(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_awkward_cuts_are_within_characters_delimiters_and_field_names() -> None:
    frame = 'data: "ab👋"\n\n'.encode()
    assert awkward_pieces(frame * 2) == [
        b"da",
        b'ta: "ab\xf0',
        b'\x9f\x91\x8b"\n',
        b"\nda",
        b'ta: "ab\xf0',
        b'\x9f\x91\x8b"\n',
        b"\n",
    ]


def test_echo_puts_the_last_user_message_first(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(tokens=(" - heard",), echo=True)
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "yes?"},
            {"role": "user", "content": [{"type": "text", "text": "what is a café?"}]},
            {"role": "system", "content": "Be short."},
        ],
    )
    assert text_of(answer) == "what is a café? - heard"
    assert the_request(fake).tokens_sent[0] == "what is a café?"


def test_scripts_come_before_routes_and_narrow_routes_before_wide_ones(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(text="default")
    fake.route(Behaviour(text="alice"), key=ALICE)
    fake.route(Behaviour(text="mini"), model="gpt-4o-mini")
    fake.route(Behaviour(text="alice on mini"), key=ALICE, model="gpt-4o-mini")
    fake.route(Behaviour(text="4.1"), model="gpt-4.1")
    fake.script(Behaviour(text="one"), Behaviour(text="two"))
    assert [text_of(ask(client)) for _ in range(3)] == ["one", "two", "alice on mini"]
    assert text_of(ask(client, model="gpt-4.1")) == "alice"
    with client_of(fake, key=BOB) as bob:
        assert text_of(ask(bob)) == "mini"
        assert text_of(ask(bob, model="gpt-4.1")) == "4.1"
        assert text_of(ask(bob, model="gpt-5")) == "default"


def test_a_function_may_say_what_each_request_gets(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = lambda request: Behaviour(text=f"You said {request.last_user_message}.")
    assert ask(client, "Hello").choices[0].message.content == "You said Hello."
    assert ask(client, "Bye").choices[0].message.content == "You said Bye."


def test_a_route_to_everything_is_refused(fake: FakeOpenAI) -> None:
    with pytest.raises(ValueError, match=r"fake\.default"):
        fake.route(Behaviour())


def test_a_refused_key_is_refused_the_list_of_models_too(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.route(Behaviour(status=Refusal.BAD_KEY), key=ALICE)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_requests_are_recorded_as_they_came(fake: FakeOpenAI, client: OpenAI) -> None:
    before = time.monotonic()
    client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        temperature=0.2,
        extra_headers={"X-Trace": "abc"},
    )
    request = the_request(fake)
    assert (request.method, request.path, request.key) == ("POST", "/v1/chat/completions", ALICE)
    assert (request.model, request.stream, request.body["temperature"]) == (MODEL, False, 0.2)
    assert request.headers["x-TRACE"] == "abc"
    assert [message["role"] for message in request.messages] == ["system", "user"]
    assert request.prompt == "Be kind.\n\nHi"
    assert before <= request.received_at <= time.monotonic()


def test_waiting_in_vain_says_what_there_was_without_the_key(fake: FakeOpenAI, client: OpenAI) -> None:
    ask(client)
    with pytest.raises(TimeoutError) as caught:
        fake.wait_for_requests(2, timeout=0.01)
    assert "1 requests, 0 open streams" in str(caught.value)
    assert "POST /v1/chat/completions model=gpt-4o-mini key=sk-test-******0001 status=200" in str(caught.value)
    assert ALICE not in str(caught.value)


def test_a_wait_is_over_as_soon_as_it_is_so(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(first_token_delay=0.1, hold_after=1)
    began = time.monotonic()
    with stream(client):
        fake.wait_for(lambda f: f.requests[0].held, timeout=5)
        assert time.monotonic() - began < 0.1 + AT_ONCE


def test_reset_forgets_everything_and_lets_nothing_linger(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.keys = {ALICE}
    fake.route(Behaviour(text="routed"), key=ALICE)
    fake.script(Behaviour(hold_after=1), Behaviour(ending=Ending.SILENCE), Behaviour(first_token_delay=1 / NEVER))
    fake.script(Behaviour(tokens_per_second=NEVER), Behaviour(text="never used"))
    held, silent, late, slow = streams = [stream(client) for _ in range(4)]
    fake.reset()
    assert fake.requests == []
    assert fake.open_streams == 0
    assert ["".join(contents(chunks)) for chunks in (held, late, slow)] == [DEFAULT_ANSWER] * 3
    assert list(silent) == []
    for chunks in streams:
        chunks.close()
    with client_of(fake, key=BOB) as bob:
        assert text_of(ask(bob)) == DEFAULT_ANSWER
    assert len(fake.requests) == 1


def test_stopping_cuts_what_is_open_and_the_port_can_be_used_again(fake: FakeOpenAI, client: OpenAI) -> None:
    fake.default = Behaviour(hold_after=1)
    with stream(client) as chunks:
        read(chunks, 1)
        began = time.monotonic()
        fake.stop()
        assert time.monotonic() - began < 2
        with pytest.raises(openai.APIConnectionError):
            list(chunks)
    assert (the_request(fake).finished, the_request(fake).disconnected) == (False, False)
    with pytest.raises(openai.APIConnectionError):
        ask(client)
    port = fake.port
    fake.start()
    fake.default = Behaviour()
    assert fake.port == port
    assert text_of(ask(client)) == DEFAULT_ANSWER


def test_a_taken_port_is_said_at_the_start(fake: FakeOpenAI) -> None:
    with pytest.raises(OSError, match="address already in use"):
        FakeOpenAI(fake.port).start()


def test_only_the_last_requests_are_kept_if_so_wished() -> None:
    with FakeOpenAI(remember=2) as fake:
        for number in range(3):
            post(fake, temperature=number)
        assert [request.body["temperature"] for request in fake.requests] == [1, 2]


def test_it_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "tests.fake_openai", "--tokens-per-second", "200", "--tokens", "5"]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        with OpenAI(base_url=address, api_key=ALICE, max_retries=0) as client, stream(client) as chunks:
            assert list(contents(chunks)) == list(DEFAULT_TOKENS[:5])
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=10) == 0
