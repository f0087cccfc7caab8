"""Texts from a model: the openai package's chat completions with `stream=True`, wrapped in a generator.

Two deliberate deviations from the package's usual way. It would build a pydantic object for each token, which costs
several times what everything else on the path does; so the raw response is read and three fields are decoded here.
And it would retry by itself, out of sight; so its retries are off.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import httpx2
import openai

from generation.budget import MAX_COMPLETION_TOKENS
from generation.models import Message
from generation.pace import MERGE_SECONDS
from generation.upstream import Ending, Pieces
from generation.upstream.candidates import Candidate
from generation.upstream.faults import UpstreamFault, classify

TEMPERATURE = 0.7
CONNECT_SECONDS = 10.0
# One provider connection for each text being written. Whoever comes above the bound is told so at once: waiting for
# a place would look like a slow provider, and it is not the provider's fault.
MAX_CONNECTIONS = 4000

# A read of this size took all that one read takes: there is more, and a fast provider is not to be held up.
MORE_IS_THERE_BYTES = 8192

# What decoding raises for JSON that is broken, too deep, or of another shape than the protocol's.
MALFORMED = (ValueError, TypeError, AttributeError, KeyError, RecursionError)

# json.loads without its guess at the encoding and its look at its arguments, each time.
_json = json.JSONDecoder().decode

_OPENAI = "https://api.openai.com/"
_Clients = dict[tuple[str, str], openai.AsyncOpenAI]
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()
_asked = 0


def _client_for(candidate: Candidate) -> openai.AsyncOpenAI:
    """Give the client of a key in the running event loop; its connections belong to that loop."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    access = (candidate.base_url, candidate.key)
    if access not in clients:
        clients[access] = openai.AsyncOpenAI(
            api_key=candidate.key,
            base_url=candidate.base_url,
            max_retries=0,
            # Reading has no time-out here: the deadlines of generation/walk.py count tokens, and comments are none.
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
            http_client=openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=MAX_CONNECTIONS)),
        )
    return clients[access]


async def close() -> None:
    """Close the clients of the running event loop, when it is about to end."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.close()


def _length_limit(candidate: Candidate, tokens: int) -> dict[str, object]:
    # OpenAI deprecated `max_tokens` and refuses it for some models; most other servers know nothing else.
    name = "max_completion_tokens" if candidate.base_url.startswith(_OPENAI) else "max_tokens"
    return {name: tokens}


@contextmanager
def _place() -> Iterator[None]:
    global _asked
    if _asked >= MAX_CONNECTIONS:
        raise UpstreamFault("no_connection_free", f"{_asked} texts are being written already")
    _asked += 1
    try:
        yield
    finally:
        _asked -= 1


@contextmanager
def _faults_named() -> Iterator[None]:
    """Raise whatever goes wrong at a provider as UpstreamFault."""
    try:
        yield
    except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError, *MALFORMED) as error:
        raise classify(error) from error


async def stream(
    candidate: Candidate,
    messages: Sequence[Message],
    *,
    max_tokens: int = MAX_COMPLETION_TOKENS,
    response_format: Mapping[str, object] | None = None,
) -> Pieces:
    """Yield the pieces of one completion, then its Ending.

    Raises:
        UpstreamFault: whenever the text is not there whole, a clean end without `finish_reason` included.
    """
    wishes = _length_limit(candidate, max_tokens) | ({"response_format": response_format} if response_format else {})
    with _place():
        async with _response(candidate, messages, wishes) as response:
            async for piece in _decoded(_bytes_of(response.http_response), request_id=_request_id(response)):
                yield piece


@asynccontextmanager
async def _response(
    candidate: Candidate, messages: Sequence[Message], wishes: Mapping[str, object]
) -> AsyncGenerator[Any, None]:
    """Give the open event stream; a fault that happens inside is told which request it belongs to."""
    request_id, status = "", None
    try:
        with _faults_named():
            async with _client_for(candidate).chat.completions.with_streaming_response.create(  # type: ignore[call-overload]  # wants six TypedDicts of roles
                model=candidate.model,
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
                temperature=TEMPERATURE,
                extra_headers={"Accept": "text/event-stream"},
                extra_body=wishes,
            ) as response:
                request_id, status = _request_id(response), response.status_code
                _insist_on_event_stream(response)
                yield response
    except UpstreamFault as fault:
        fault.status = fault.status or status
        fault.request_id = fault.request_id or request_id
        raise


def _insist_on_event_stream(response: Any) -> None:
    content_type = response.headers.get("content-type", "")
    if not content_type.startswith("text/event-stream"):
        reason = f"an answer of type {content_type[:40]!r} instead of an event stream"
        raise UpstreamFault("broken_stream", reason, label=reason)


def _request_id(response: Any) -> str:
    value: str = response.headers.get("x-request-id", "")
    return value[:120]


def _bytes_of(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Give the body as it arrives, without the layers that undo compression where there is none."""
    return response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()


async def _decoded(chunks: AsyncIterator[bytes], *, request_id: str) -> Pieces:
    """Decode the bytes of an event stream; all text of one network read becomes one piece.

    The first text is given at once. What arrives within MERGE_SECONDS behind a text is read in one go, so that every
    step from here to the client is done once for all of it.
    """
    decoder = _Decoder()
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                decoder.read(line)
        if text := decoder.take():
            yield text
        if decoder.done:
            break
        if decoder.any_text and len(chunk) < MORE_IS_THERE_BYTES:
            await asyncio.sleep(MERGE_SECONDS)
    if not decoder.finish_reason:
        raise UpstreamFault("broken_stream", "no finish_reason", label="no finish_reason")
    if decoder.finish_reason == "content_filter":
        raise UpstreamFault("content_filtered", "finish_reason content_filter")
    if not decoder.any_text:
        raise UpstreamFault("broken_stream", f"no text, finish_reason {decoder.finish_reason}")
    yield decoder.ending(request_id)


class _Decoder:
    """Takes the few fields that matter out of `chat.completion.chunk` frames."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.any_text = False
        self.done = False
        self.finish_reason = ""
        self.model = ""
        self.usage: dict[str, Any] = {}

    def read(self, line: bytes) -> None:
        """Read one line. Raises UpstreamFault for an error object and ValueError for broken JSON."""
        if not line.startswith(b"data:"):
            return  # a comment, or a field that chat completions do not use
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return
        chunk = _json(data.decode("utf-8", "surrogatepass"))
        if not isinstance(chunk, dict):
            raise ValueError(f"a frame that is no object: {type(chunk).__name__}")  # noqa: TRY004  # broken input, as broken JSON
        if error := chunk.get("error"):
            reason = error.get("message", "") if isinstance(error, dict) else str(error)
            raise UpstreamFault("broken_stream", f"error in the stream: {reason}", label="error in the stream")
        self.model = chunk.get("model") or self.model
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            text = (choice.get("delta") or {}).get("content")
            if text:
                self.pieces.append(storable(text))
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def take(self) -> str:
        text = "".join(self.pieces)
        self.pieces.clear()
        self.any_text = self.any_text or bool(text)
        return text

    def ending(self, request_id: str) -> Ending:
        details = self.usage.get("prompt_tokens_details") or {}
        return Ending(
            finish_reason=str(self.finish_reason)[:32],
            model=str(self.model)[:120],
            prompt_tokens=_count(self.usage.get("prompt_tokens")),
            completion_tokens=_count(self.usage.get("completion_tokens")),
            cached_tokens=_count(details.get("cached_tokens")),
            request_id=request_id,
        )


def _count(value: object) -> int | None:
    """Give a number of tokens, None for anything a provider may send instead."""
    return value if type(value) is int and 0 <= value < 2**31 else None


def storable(text: object) -> str:
    """Replace what no database and no UTF-8 stream takes: NUL, and halves of surrogate pairs."""
    if not isinstance(text, str):
        raise TypeError(f"a text of type {type(text).__name__}")
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
