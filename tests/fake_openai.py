"""OpenAI's chat API, faked over real HTTP: what it sends when all is well, and what it sends when it is not.

    with FakeOpenAI() as fake:
        fake.script(Behaviour(status=Refusal.RATE_LIMIT, retry_after=20), Behaviour(hold_after=3))
        client = OpenAI(base_url=fake.base_url, api_key="sk-test-alice-0001", max_retries=0)
        ...
        fake.wait_for(lambda f: f.requests[-1].held)
        fake.release()

`python -m tests.fake_openai --port 8001 --tokens-per-second 20` serves the same for a try by hand or a benchmark.

Things that a test may rely on:

- A token, an end, a refusal is recorded before its bytes leave. Whatever a client has seen is in `requests` already.
- A request ends as `finished` (the behaviour was carried out, faults included) or as `disconnected` (the client left
  first); as neither if the fake itself was stopped.
- A hold comes before an ending at the same token. `hold_after=3, after_tokens=3` with RESET lets the client read three
  tokens for certain; without the hold, a reset may overtake bytes that an asynchronous client has not read yet.
- With `after_tokens=0` a stream breaks before its first frame, and RESET before the response's headers.
- Waits block. In a test that runs the client on its own event loop: `await asyncio.to_thread(fake.wait_for, ...)`.

Deliberately unlike OpenAI: the model in the answer is the one asked for, never its dated name; `max_tokens` and `n` are
ignored; prompt tokens are a quarter of the characters.
"""

import argparse
import asyncio
import functools
import itertools
import json
import math
import re
import signal
import socket
import struct
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self, TypeAlias

from aiohttp import web
from multidict import CIMultiDictProxy

from tests import graders

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

HOST = "127.0.0.1"
MODELS = ("gpt-4o-mini", "gpt-4.1-mini-2025-04-14", "gpt-4.1-2025-04-14")
# What a site is told that asks this server as it would ask OpenAI.
AS_OPENAI = {
    "OPENAI_FALLBACK_MODELS": ",".join(MODELS[1:]),
    "VARIANT_MODELS": ",".join([*MODELS, MODELS[0]]),
}

DEFAULT_TEXT = """\
## The late delivery 📦

You run the café **Łódź & Søn**. The supplier writes: “Извините! 40 kg of coffee will be *two days* late.” \
The weekend is fully booked. 👩‍🍳

- In stock: 6 kg
- Budget: €180

What do you do first, and why?
"""

# Near enough to how byte-pair tokenizers cut: a word with its leading space, long words in pieces, digits by threes.
_TOKEN = re.compile(r" ?[^\W\d_]{1,9}| ?\d{1,3}| ?[^\s\w]{1,4}|\s+|_")


@functools.lru_cache(maxsize=64)
def split_into_tokens(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(text))


DEFAULT_TOKENS = split_into_tokens(DEFAULT_TEXT.strip())


@dataclass(frozen=True)
class ApiError:
    """An error as OpenAI words it; `message` may name {model}, {key}, {request_id}, {prompt_tokens} and {wait}."""

    http: int
    message: str
    type: str | None = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    more: Mapping[str, Json] = field(default_factory=dict)

    def body(self, facts: Mapping[str, str]) -> bytes:
        message = self.message.format_map(facts)
        error: dict[str, Json] = {"message": message, "type": self.type, "param": self.param, "code": self.code}
        return _encode({"error": {**error, **self.more}})


_SORRY = (
    "Sorry about that! You can retry your request, or contact us through our help center at help.openai.com if the "
    "error persists. (Please include the request ID {request_id} in your message.)"
)


class Refusal(Enum):
    """The HTTP errors that a request may get instead of an answer."""

    BAD_KEY = ApiError(
        401,
        "Incorrect API key provided: {key}. You can find your API key at https://platform.openai.com/account/api-keys.",
        code="invalid_api_key",
    )
    NO_ACCESS = ApiError(403, "Project `proj_x` does not have access to model `{model}`", code="model_not_found")
    NO_FORMAT = ApiError(
        400,
        "Invalid parameter: 'response_format' of this type is not supported with this model.",
        param="response_format",
    )
    RATE_LIMIT = ApiError(
        429,
        "Rate limit reached for {model} in organization org-x on tokens per min (TPM): Limit 30000, Used 29937, "
        "Requested 385. Please try again in {wait}s. Visit https://platform.openai.com/account/rate-limits to learn "
        "more.",
        type="tokens",
        code="rate_limit_exceeded",
    )
    NO_QUOTA = ApiError(
        429,
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
        type="insufficient_quota",
        code="insufficient_quota",
    )
    SERVER_ERROR = ApiError(
        500, f"The server had an error while processing your request. {_SORRY}", type="server_error"
    )
    OVERLOADED = ApiError(503, f"That model is currently overloaded with other requests. {_SORRY}", type="server_error")
    CONTEXT_LENGTH = ApiError(
        400,
        "This model's maximum context length is 128000 tokens. However, your messages resulted in {prompt_tokens} "
        "tokens. Please reduce the length of the messages.",
        param="messages",
        code="context_length_exceeded",
    )
    # Words that would begin a line of their own in a log, and recolour a terminal.
    FORGED = ApiError(
        403,
        "model\n2026-01-01 00:00:00,000 INFO forged all is well\x1b[2J\u202e\u2028",
        param="a\r\n2026-01-01 00:00:00,000 INFO forged all is well",
        code="b\n2026-01-01 00:00:00,000 INFO forged all is well\x9b2J",
    )
    # Azure's form of OpenAI's API; OpenAI itself answers such prompts with finish_reason content_filter.
    CONTENT_FILTER = ApiError(
        400,
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
        "modify your prompt and retry. To learn more about our content filtering policies please read our "
        "documentation: https://go.microsoft.com/fwlink/?linkid=2198766",
        type=None,
        param="prompt",
        code="content_filter",
        more={
            "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
            },
        },
    )


_NO_KEY = ApiError(
    401,
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API "
    "from your browser and are prompted for a username and password. You can obtain an API key from "
    "https://platform.openai.com/account/api-keys.",
)
_NOT_JSON = ApiError(
    400,
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble "
    "figuring out how to fix this, please contact us through our help center at help.openai.com.)",
)
_NO_MODEL = ApiError(400, "you must provide a model parameter")
_NO_MESSAGES = ApiError(
    400, "Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"
)
_NO_SUCH_URL = ApiError(404, "Invalid URL ({method} {path})")


class Ending(Enum):
    """How an answer ends, after `after_tokens` tokens. The comments say what differs without "stream": true."""

    NORMAL = "normal"  # after all the tokens
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    NO_FINISH_REASON = "no_finish_reason"  # finish_reason is null
    RESET = "reset"  # before the headers, once the tokens would have been written
    ERROR_OBJECT = "error_object"  # the error object with status 200, as OpenRouter does
    BROKEN_JSON = "broken_json"  # half of the JSON
    HTML = "html"  # at once in either case: the page replaces the response
    SILENCE = "silence"
    COMMENTS_ONLY = "comments_only"  # as SILENCE


_FINISH_REASONS = {Ending.NORMAL: "stop", Ending.LENGTH: "length", Ending.CONTENT_FILTER: "content_filter"}


@dataclass(frozen=True)
class Behaviour:
    """What a request gets. Times are in seconds; neither `text` nor `tokens` means DEFAULT_TOKENS."""

    text: str | None = None
    tokens: tuple[str, ...] | None = None
    tokens_per_second: float | None = None  # None: as fast as the connection takes them
    first_token_delay: float = 0.0  # after a stream's headers; a refusal or whole answer comes that much later
    status: Refusal | None = None  # None: 200
    retry_after: float | None = None  # with a status: retry-after (whole seconds, rounded up) and retry-after-ms
    ending: Ending = Ending.NORMAL
    after_tokens: int = 0  # for every ending but NORMAL; more than there are means after all of them
    hold_after: int | None = None  # wait there for release(); never reached if there are fewer tokens
    comment_interval: float = 0.1
    split_frames: bool = False  # cut a stream's bytes inside characters and frames, a millisecond apart
    echo: bool = False  # put the last user message before the other tokens, as one token
    closing_delay: float = 0.0  # between a stream's last frame and the end of its body
    cached_tokens: int = 0  # reported as prompt_tokens_details.cached_tokens

    def __post_init__(self) -> None:
        if self.text is not None and self.tokens is not None:
            raise ValueError("text and tokens exclude each other")

    def tokens_for(self, request: "RecordedRequest") -> tuple[str, ...]:
        """All tokens that this request's answer has until its ending."""
        echoed = (request.last_user_message,) if self.echo else ()
        tokens = echoed + self._own_tokens()
        return tokens if self.ending is Ending.NORMAL else tokens[: self.after_tokens]

    def _own_tokens(self) -> tuple[str, ...]:
        if self.text is not None:
            return split_into_tokens(self.text)
        return DEFAULT_TOKENS if self.tokens is None else self.tokens


@dataclass(eq=False)
class RecordedRequest:
    """One request and what became of it so far; the fields below `request_id` change while it is being answered."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]
    body: dict[str, Json]  # {} for a body that is no JSON object
    received_at: float  # time.monotonic(), as ended_at
    request_id: str
    query: str = ""
    port: int = 0  # the client's: the same for all requests of one connection
    status: int | None = None
    tokens_sent: list[str] = field(default_factory=list)
    held: bool = False
    finished: bool = False
    disconnected: bool = False
    ended_at: float | None = None

    @property
    def key(self) -> str | None:
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    @property
    def model(self) -> str | None:
        model = self.body.get("model")
        return model if isinstance(model, str) else None

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def messages(self) -> list[dict[str, Json]]:
        messages = self.body.get("messages")
        return [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []

    @property
    def last_user_message(self) -> str:
        spoken = (
            _text_of(message.get("content")) for message in reversed(self.messages) if message.get("role") == "user"
        )
        return next(spoken, "")

    @property
    def prompt(self) -> str:
        """The text of all messages, for asking what did and did not go out."""
        return "\n\n".join(_text_of(message.get("content")) for message in self.messages)

    @property
    def prompt_tokens(self) -> int:
        return 3 + 4 * len(self.messages) + len(self.prompt) // 4

    @property
    def text_sent(self) -> str:
        return "".join(self.tokens_sent)

    def stream_option(self, name: str, *, default: bool) -> bool:
        options = self.body.get("stream_options")
        return options.get(name, default) is True if isinstance(options, dict) else default

    def __str__(self) -> str:
        flags = " ".join(name for name in ("stream", "held", "finished", "disconnected") if getattr(self, name))
        sent = f"status={self.status} tokens={len(self.tokens_sent)}"
        return f"{self.method} {self.path} model={self.model} key={mask(self.key or '')} {sent} {flags}".rstrip()


Answer: TypeAlias = Behaviour | Callable[[RecordedRequest], Behaviour]


def _text_of(content: Json) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def mask(key: str) -> str:
    """A key as OpenAI shows it: its ends, and a star for each character between them."""
    head, tail = (8, 4) if len(key) > 16 else (5, 2)
    return key[:head] + "*" * (len(key) - head - tail) + key[max(head, len(key) - tail) :]


def _parsed(raw: bytes) -> dict[str, Json] | None:
    """The JSON object in `raw`, or None if there is none."""
    try:
        body: Json = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


_JSON_HEADERS = {"content-type": "application/json"}
_HTML_HEADERS = {"content-type": "text/html; charset=utf-8"}
_SSE_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
_HTML_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in to this network.</body></html>\n"
_COMMENT = b": OPENROUTER PROCESSING\n\n"
_DONE = b"data: [DONE]\n\n"
_FINGERPRINT = "fp_34a54ae93c"
_NOISE = "aZ3xQ9kLm2RtY7bV"

# After the lead byte of a run of non-ASCII, between the two newlines of a frame, and after "da" of "data:".
_AWKWARD = re.compile(rb"(?<![\x80-\xff])[\xc2-\xf4]|\n(?=\n)|(?:^|\n)da(?=ta:)")
# Longer than a client's read takes on loopback, so that TCP does not join the pieces again.
_BETWEEN_PIECES = 0.001
# Tokens joined into one write where no pace is asked for; other streams and a client's leaving get their turn between.
_BATCH = 32


def awkward_pieces(data: bytes) -> list[bytes]:
    cuts = [0, *(match.end() for match in _AWKWARD.finditer(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(cuts)]


def _encode(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _noise_for(payload: bytes) -> bytes:
    """OpenAI pads its chunks so that their sizes do not betray the text."""
    return b',"obfuscation":' + _encode(_NOISE[len(payload) % 16 :])


def _chunk_end(delta: dict[str, Json], reason: str | None, with_usage: bool, obfuscated: bool) -> bytes:
    choice = _encode({"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason})
    usage = b',"usage":null' if with_usage else b""
    noise = _noise_for(choice) if obfuscated else b""
    return choice + b"]" + usage + noise + b"}\n\n"


@functools.lru_cache(maxsize=8192)
def _content_end(token: str, with_usage: bool, obfuscated: bool) -> bytes:
    """All of a content chunk that does not depend on the request: streams mostly repeat the same few texts."""
    return _chunk_end({"content": token}, None, with_usage, obfuscated)


@dataclass(frozen=True)
class _Frames:
    """The SSE frames of one stream."""

    head: bytes
    with_usage: bool
    obfuscated: bool

    @classmethod
    def of(cls, request: RecordedRequest) -> Self:
        envelope = _encode({**_envelope(request, "chat.completion.chunk"), "choices": []})
        head = b"data: " + envelope.removesuffix(b"]}")
        usage = request.stream_option("include_usage", default=False)
        return cls(head, usage, request.stream_option("include_obfuscation", default=True))

    def role(self) -> bytes:
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def content(self, token: str) -> bytes:
        return self.head + _content_end(token, self.with_usage, self.obfuscated)

    def end(self, reason: str, usage: Json) -> bytes:
        finish = self._chunk({}, reason)
        return finish + (self._usage(usage) if self.with_usage else b"") + _DONE

    def broken(self) -> bytes:
        return self.head + b'{"index":0,"delta":{"content":" half a\n\n'

    def _chunk(self, delta: dict[str, Json], reason: str | None) -> bytes:
        return self.head + _chunk_end(delta, reason, self.with_usage, self.obfuscated)

    def _usage(self, usage: Json) -> bytes:
        figures = _encode(usage)
        return self.head + b'],"usage":' + figures + (_noise_for(figures) if self.obfuscated else b"") + b"}\n\n"


def _envelope(request: RecordedRequest, kind: str) -> dict[str, Json]:
    return {
        "id": f"chatcmpl-{request.request_id[4:33]}",
        "object": kind,
        "created": int(time.time()),
        "model": request.model,
        "service_tier": "default",
        "system_fingerprint": _FINGERPRINT,
    }


def _usage(request: RecordedRequest, cached_tokens: int) -> dict[str, Json]:
    prompt, completion = request.prompt_tokens, len(request.tokens_sent)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _completion(request: RecordedRequest, reason: str | None, usage: Json) -> bytes:
    message: Json = {"role": "assistant", "content": request.text_sent, "refusal": None, "annotations": []}
    choice: Json = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return _encode({**_envelope(request, "chat.completion"), "choices": [choice], "usage": usage})


def _model_list(models: Sequence[str]) -> bytes:
    same: dict[str, Json] = {"object": "model", "created": 1721172741, "owned_by": "system"}
    listed: list[Json] = [{"id": name, **same} for name in models]
    return _encode({"object": "list", "data": listed})


class _Exchange:
    """One request being answered. Everything in here runs on the server's loop."""

    def __init__(self, record: RecordedRequest, request: web.Request, changed: threading.Condition) -> None:
        self.record = record
        self._request = request
        self._changed = changed
        self._response: web.StreamResponse = web.Response()
        self._behaviour = Behaviour()
        self._released = False
        self._hurried = False
        self._waker: asyncio.Future[None] | None = None

    def release(self) -> None:
        self._released = True
        self._wake()

    def hurry(self) -> None:
        """Come to the end without any more waiting."""
        self._hurried = True
        self.release()

    def cut(self) -> None:
        """The provider goes away: neither finished nor left by the client."""
        self.end()
        if self._request.transport is not None:
            self._request.transport.abort()

    def left_by_client(self) -> web.StreamResponse:
        self.end(disconnected=True)
        return self._response

    def end(self, *, finished: bool = False, disconnected: bool = False) -> None:
        """The first end counts: a client may well leave after the last byte."""
        with self._changing() as record:
            if record.ended_at is None:
                record.ended_at = time.monotonic()
                record.finished = finished
                record.disconnected = disconnected

    @contextmanager
    def _changing(self) -> Iterator[RecordedRequest]:
        """The record, to be changed under the lock; whoever waits for something is told."""
        with self._changed:
            yield self.record
            self._changed.notify_all()

    def refuse(self, error: ApiError, *, retry_after: float | None = None) -> web.StreamResponse:
        wait = {} if retry_after is None else _retry_headers(retry_after)
        return self.whole(error.body(self._facts(retry_after)), {**_JSON_HEADERS, **wait}, status=error.http)

    def whole(self, body: bytes, headers: Mapping[str, str], *, status: int = 200) -> web.StreamResponse:
        with self._changing() as record:
            record.status = status
        self.end(finished=True)
        return web.Response(body=body, status=status, headers={**headers, **self._own_headers()})

    async def answer(self, behaviour: Behaviour) -> web.StreamResponse:
        self._behaviour = behaviour
        if behaviour.status is not None:
            await self._pause(behaviour.first_token_delay)
            return self.refuse(behaviour.status.value, retry_after=behaviour.retry_after)
        if behaviour.ending is Ending.HTML:
            await self._pause(behaviour.first_token_delay)
            return self.whole(_HTML_PAGE, _HTML_HEADERS)
        if behaviour.ending is Ending.RESET and behaviour.after_tokens == 0:
            await self._pause(behaviour.first_token_delay)
            return self._reset_connection()
        return await (self._stream() if self.record.stream else self._complete())

    async def _stream(self) -> web.StreamResponse:
        frames = _Frames.of(self.record)
        tokens = self._behaviour.tokens_for(self.record)
        await self._open_stream()
        await self._pause(self._behaviour.first_token_delay)
        if tokens or self._behaviour.ending in _FINISH_REASONS:
            await self._write(frames.role())
        await self._write_tokens(tokens, frames)
        return await self._end_stream(frames)

    async def _end_stream(self, frames: _Frames) -> web.StreamResponse:
        ending = self._behaviour.ending
        if ending is Ending.RESET:
            return self._reset_connection()
        if ending is Ending.SILENCE:
            await self._say_nothing()
        if ending is Ending.COMMENTS_ONLY:
            await self._comment()
        self.end(finished=True)
        await self._write(self._last_frames(frames))
        await self._pause(self._behaviour.closing_delay)
        await self._response.write_eof()
        return self._response

    def _last_frames(self, frames: _Frames) -> bytes:
        ending = self._behaviour.ending
        if ending is Ending.ERROR_OBJECT:
            return b"data: " + Refusal.SERVER_ERROR.value.body(self._facts()) + b"\n\n"
        if ending is Ending.BROKEN_JSON:
            # A good end follows, so that a client which skips what it cannot read is caught with a piece missing.
            return frames.broken() + frames.end("stop", self._usage())
        reason = _FINISH_REASONS.get(ending)
        return b"" if reason is None else frames.end(reason, self._usage())

    async def _complete(self) -> web.StreamResponse:
        await self._pause(self._behaviour.first_token_delay)
        await self._write_tokens(self._behaviour.tokens_for(self.record), None)
        if self._behaviour.ending is Ending.RESET:
            return self._reset_connection()
        if self._behaviour.ending in (Ending.SILENCE, Ending.COMMENTS_ONLY):
            await self._open_stream(_JSON_HEADERS)
            await self._say_nothing()
            self.end(finished=True)
            return self._response
        return self.whole(self._completion(), _JSON_HEADERS)

    def _completion(self) -> bytes:
        ending = self._behaviour.ending
        if ending is Ending.ERROR_OBJECT:
            return Refusal.SERVER_ERROR.value.body(self._facts())
        body = _completion(self.record, _FINISH_REASONS.get(ending), self._usage())
        return body[: len(body) // 2] if ending is Ending.BROKEN_JSON else body

    async def _open_stream(self, headers: Mapping[str, str] = _SSE_HEADERS) -> None:
        with self._changing() as record:
            record.status = 200
        self._response = web.StreamResponse(headers={**headers, **self._own_headers()})
        await self._response.prepare(self._request)

    async def _write(self, data: bytes) -> None:
        if not self._behaviour.split_frames:
            await self._response.write(data)
            return
        for piece in awkward_pieces(data):
            await self._response.write(piece)
            await asyncio.sleep(_BETWEEN_PIECES)

    async def _write_tokens(self, tokens: tuple[str, ...], frames: _Frames | None) -> None:
        """Send the tokens at their pace, with the hold; without frames only the time passes and the record grows."""
        hold = self._behaviour.hold_after
        if hold is None or hold > len(tokens):
            await self._write_run(tokens, frames)
            return
        await self._write_run(tokens[:hold], frames)
        await self._hold()
        await self._write_run(tokens[hold:], frames)

    async def _write_run(self, tokens: tuple[str, ...], frames: _Frames | None) -> None:
        rate = self._behaviour.tokens_per_second
        size = _BATCH if rate is None else 1
        interval = 0.0 if rate is None else 1 / rate
        due = asyncio.get_running_loop().time()
        for start in range(0, len(tokens), size):
            await self._pause_until(due)
            await self._write_batch(tokens[start : start + size], frames)
            due += interval
            if rate is None:
                await asyncio.sleep(0)

    async def _write_batch(self, tokens: tuple[str, ...], frames: _Frames | None) -> None:
        with self._changing() as record:
            record.tokens_sent.extend(tokens)
        if frames is not None:
            await self._write(b"".join(map(frames.content, tokens)))

    def _reset_connection(self) -> web.StreamResponse:
        transport = self._request.transport
        if transport is None:
            return self.left_by_client()
        self.end(finished=True)
        # Lingering for no time makes the kernel send RST where it would send FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        return self._response

    async def _hold(self) -> None:
        with self._changing() as record:
            record.held = True
        while not self._released:
            await self._nap(None)
        with self._changing() as record:
            record.held = False

    async def _say_nothing(self) -> None:
        while not self._hurried:
            await self._nap(None)

    async def _comment(self) -> None:
        while not self._hurried:
            await self._write(_COMMENT)
            await self._nap(self._in(self._behaviour.comment_interval))

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self._pause_until(self._in(seconds))

    def _in(self, seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds

    async def _pause_until(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        while not self._hurried and loop.time() < when:
            await self._nap(when)

    async def _nap(self, when: float | None) -> None:
        """Sleep until the loop's clock says `when` (None: for ever), or until something is told to this exchange."""
        loop = asyncio.get_running_loop()
        self._waker = loop.create_future()
        timer = None if when is None else loop.call_at(when, self._wake)
        try:
            await self._waker
        finally:
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    def _own_headers(self) -> dict[str, str]:
        elapsed = int((time.monotonic() - self.record.received_at) * 1000)
        return {"x-request-id": self.record.request_id, "openai-processing-ms": str(elapsed)}

    def _usage(self) -> dict[str, Json]:
        return _usage(self.record, self._behaviour.cached_tokens)

    def _facts(self, retry_after: float | None = None) -> dict[str, str]:
        return {
            "method": self.record.method,
            "path": self.record.path,
            "model": self.record.model or "",
            "key": mask(self.record.key or ""),
            "request_id": self.record.request_id,
            "prompt_tokens": str(self.record.prompt_tokens),
            "wait": f"{retry_after or 0.644:g}",
        }


def _retry_headers(seconds: float) -> dict[str, str]:
    return {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(round(seconds * 1000))}


class FakeOpenAI:
    """The server, in a thread of its own. All of its methods and attributes may be used from any thread.

    `default` is what a chat request gets, or a quick function that says it for each; `route` is asked before it and
    `script` before that. Requests for marks get what `grader` says, unless the default or the route is a refusal, and
    are recorded in `markings`. `keys` are the API keys that are let in (None: any, and none at all). `remember` limits
    how many requests are kept (None: all).
    """

    def __init__(self, port: int = 0, *, default: Answer | None = None, remember: int | None = None) -> None:
        self.port = port
        self._initial: Answer = default or Behaviour()
        self._remember = remember
        self._changed = threading.Condition()
        self._open: dict[RecordedRequest, _Exchange] = {}
        self._stopping = asyncio.Event()
        self._thread = threading.Thread()
        self._forget()

    def _forget(self) -> None:
        self.default: Answer = self._initial
        self.keys: set[str] | None = None
        self.models: tuple[str, ...] = MODELS
        self.requests: list[RecordedRequest] = []
        # Requests for marks stand apart: each answer that is handed in brings one beside the text that follows it.
        self.markings: list[RecordedRequest] = []
        self.grader: Answer = _honest_marks
        self._scripted: deque[Behaviour] = deque()
        self._routes: dict[tuple[str | None, str | None], Behaviour] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Raises OSError if the port is taken. After `stop` it starts again on the same port."""
        started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="fake-openai", daemon=True)
        self._thread.start()
        self.port = started.result(timeout=10)

    def stop(self) -> None:
        """Open connections are cut, as when a provider goes down. Stopping twice does no harm."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=10)

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}/v1"

    def _run(self, started: Future[int]) -> None:
        asyncio.run(self._serve(started))

    async def _serve(self, started: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        runner = web.AppRunner(self._app(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self.port, backlog=2048).start()
            started.set_result(runner.addresses[0][1])
            await self._stopping.wait()
        except OSError as error:
            started.set_exception(error)
        finally:
            for exchange in list(self._open.values()):
                exchange.cut()
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    def script(self, *behaviours: Behaviour) -> None:
        """One for each of the coming chat requests, before anything else. A request that is not let in uses none up."""
        with self._changed:
            self._scripted.extend(behaviours)

    def route(self, behaviour: Behaviour, *, key: str | None = None, model: str | None = None) -> None:
        """For all requests with this key, this model, or both. Both go before the key alone, that before the model."""
        if key is None and model is None:
            raise ValueError("a route without key and model is the default: set fake.default")
        with self._changed:
            self._routes[key, model] = behaviour

    def release(self, request: RecordedRequest | None = None) -> None:
        """Let this request, or all received so far, go on from their hold, also if they have yet to reach it."""
        with self._changed:
            exchanges = [exchange for record, exchange in self._open.items() if request in (None, record)]
        for exchange in exchanges:
            self._loop.call_soon_threadsafe(exchange.release)

    def reset(self) -> None:
        """Back to how it started. What is still open comes to its end without waiting, and is recorded nowhere."""
        with self._changed:
            exchanges = list(self._open.values())
            self._forget()
            self._changed.notify_all()
        for exchange in exchanges:
            self._loop.call_soon_threadsafe(exchange.hurry)

    @property
    def open_streams(self) -> int:
        with self._changed:
            return sum(request.stream and request.ended_at is None for request in self.requests)

    def wait_for(self, predicate: Callable[["FakeOpenAI"], bool], timeout: float = 60.0) -> None:
        """Until `predicate(fake)` holds, asked at every change. Raises TimeoutError saying what there was instead."""
        with self._changed:
            if not self._changed.wait_for(lambda: predicate(self), timeout):
                raise TimeoutError(f"not so after {timeout:g} s: {self}")

    def wait_for_requests(self, count: int, timeout: float = 60.0) -> None:
        self.wait_for(lambda fake: len(fake.requests) >= count, timeout)

    def __str__(self) -> str:
        lines = [f"{len(self.requests)} requests, {self.open_streams} open streams"]
        return "\n".join(lines + [f"  {number}: {request}" for number, request in enumerate(self.requests)])

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = _parsed(raw)
        exchange = self._receive(request, body or {})
        try:
            return await self._respond(exchange, is_json=body is not None)
        except ConnectionError:
            return exchange.left_by_client()
        except asyncio.CancelledError:
            exchange.left_by_client()
            raise
        finally:
            with self._changed:
                del self._open[exchange.record]

    def _receive(self, request: web.Request, body: dict[str, Json]) -> _Exchange:
        record = RecordedRequest(
            method=request.method,
            path=request.path,
            query=request.query_string,
            headers=request.headers,
            body=body,
            received_at=time.monotonic(),
            request_id=f"req_{uuid.uuid4().hex}",
            port=(request.get_extra_info("peername") or ("", 0))[1],
        )
        exchange = _Exchange(record, request, self._changed)
        with self._changed:
            self._open[record] = exchange
            (self.markings if graders.is_marking(record) else self.requests).append(record)
            if self._remember is not None:
                del self.requests[: -self._remember]
            self._changed.notify_all()
        return exchange

    async def _respond(self, exchange: _Exchange, *, is_json: bool) -> web.StreamResponse:
        record = exchange.record
        fault = self._fault(record, is_json=is_json)
        if fault is not None:
            return exchange.refuse(fault)
        if record.method == "POST":
            return await exchange.answer(self._next_behaviour(record))
        standing = self._standing_behaviour(record)
        if standing.status is not None:
            return exchange.refuse(standing.status.value, retry_after=standing.retry_after)
        return exchange.whole(_model_list(self.models), _JSON_HEADERS)

    def _fault(self, record: RecordedRequest, *, is_json: bool) -> ApiError | None:
        """What is wrong with the request itself."""
        if self.keys is not None and record.key not in self.keys:
            return _NO_KEY if record.key is None else Refusal.BAD_KEY.value
        if (record.method, record.path) == ("GET", "/v1/models"):
            return None
        if (record.method, record.path) != ("POST", "/v1/chat/completions"):
            return _NO_SUCH_URL
        if not is_json:
            return _NOT_JSON
        if record.model is None:
            return _NO_MODEL
        return None if record.messages else _NO_MESSAGES

    def _next_behaviour(self, record: RecordedRequest) -> Behaviour:
        if graders.is_marking(record):
            standing = self._standing_behaviour(record)
            return standing if standing.status is not None else _answer_for(self.grader, record)
        with self._changed:
            return self._scripted.popleft() if self._scripted else self._standing_behaviour(record)

    def _standing_behaviour(self, record: RecordedRequest) -> Behaviour:
        routes = ((record.key, record.model), (record.key, None), (None, record.model))
        answer = next((self._routes[route] for route in routes if route in self._routes), self.default)
        return _answer_for(answer, record)


def _answer_for(answer: Answer, record: RecordedRequest) -> Behaviour:
    return answer if isinstance(answer, Behaviour) else answer(record)


def _honest_marks(record: RecordedRequest) -> Behaviour:
    return Behaviour(text=graders.honest(record))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fake_openai", description="Serves a fake OpenAI API.")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--tokens-per-second", type=float, default=20.0, help="0: as fast as possible (default 20)")
    parser.add_argument("--first-token-delay", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--tokens", type=int, default=len(DEFAULT_TOKENS), help="length of the answer")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    options = _arguments(argv)
    behaviour = Behaviour(
        tokens=tuple(itertools.islice(itertools.cycle(DEFAULT_TOKENS), options.tokens)),
        tokens_per_second=options.tokens_per_second or None,
        first_token_delay=options.first_token_delay,
    )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with FakeOpenAI(options.port, default=behaviour, remember=1000) as fake:
        sys.stdout.write(f"{fake.base_url}\n")
        sys.stdout.flush()
        stopped.wait()


if __name__ == "__main__":
    main()
