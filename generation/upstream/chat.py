"""Texts from a model: the openai package's chat completions with `stream=True`, wrapped in a generator.

Two deliberate deviations from the package's usual way. It would build a pydantic object for each token, which costs
several times what everything else on the path does; so the raw response is read, and decoded in decoder.py. And it
would retry by itself, out of sight; so its retries are off.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import openai

from generation.model_request import ModelRequest
from generation.pace import next_look
from generation.upstream import Pieces
from generation.upstream.candidates import Candidate
from generation.upstream.decoder import Decoder
from generation.upstream.faults import UpstreamFault, classify

CONNECT_SECONDS = 10.0
# One provider connection for each text being written. Whoever comes above the bound is told so at once: waiting for
# one would look like a slow provider, and it is not the provider's fault.
MAX_CONNECTIONS = 4000

# What the end of a body is waited for behind the last event; it mostly comes with it.
CLOSING_SECONDS = 0.2

# A read of this size took all that one read takes: there is more, and a fast provider is not to be held up.
MORE_IS_THERE_BYTES = 8192

# What decoding raises for JSON that is broken, too deep, or of another shape than the protocol's.
MALFORMED = (ValueError, TypeError, AttributeError, KeyError, RecursionError)

_OPENAI = "https://api.openai.com/"


class Clients:
    """The openai package's clients of a process, one for each key. Their connections belong to one event loop."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], openai.AsyncOpenAI] = {}
        self._asked = 0

    async def stream(self, candidate: Candidate, request: ModelRequest) -> Pieces:
        """Yield the pieces of one completion, then its CompletionEnd.

        Raises:
            UpstreamFault: whenever the text is not there whole, a clean end without `finish_reason` included.
        """
        with self._connection():
            async with _response(self._client_for(candidate), candidate, request) as response:
                async for piece in _decoded(_Body(response.http_response), request_id=_request_id(response)):
                    yield piece

    async def close(self) -> None:
        """Close all connections."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.close()

    def _client_for(self, candidate: Candidate) -> openai.AsyncOpenAI:
        access = (candidate.base_url, candidate.key)
        if access not in self._clients:
            self._clients[access] = _new_client(candidate)
        return self._clients[access]

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Count a connection. Raises UpstreamFault when as many are open as there may be."""
        if self._asked >= MAX_CONNECTIONS:
            raise UpstreamFault("no_connection_free", f"{self._asked} texts are being written already")
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1


def _new_client(candidate: Candidate) -> openai.AsyncOpenAI:
    # The package would put a path behind the query of its base address.
    address, _, query = candidate.base_url.partition("?")
    return openai.AsyncOpenAI(
        api_key=candidate.key,
        base_url=address,
        default_query=dict(parse_qsl(query, keep_blank_values=True)),
        max_retries=0,
        # Reading has no time-out here: the deadlines of generation/attempts.py count tokens, and comments are none.
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
        http_client=openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=MAX_CONNECTIONS)),
    )


def _wishes(candidate: Candidate, request: ModelRequest) -> dict[str, object]:
    # OpenAI deprecated `max_tokens` and refuses it for some models; most other servers know nothing else.
    length = "max_completion_tokens" if candidate.base_url.startswith(_OPENAI) else "max_tokens"
    wishes: dict[str, object] = {length: request.max_tokens}
    if request.temperature is not None:
        wishes["temperature"] = request.temperature
    if request.response_format is not None:
        wishes["response_format"] = request.response_format
    return wishes


@contextmanager
def _faults_named() -> Iterator[None]:
    """Raise whatever goes wrong at a provider as UpstreamFault."""
    try:
        yield
    except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError, *MALFORMED) as error:
        raise classify(error) from error


@asynccontextmanager
async def _response(
    client: openai.AsyncOpenAI, candidate: Candidate, request: ModelRequest
) -> AsyncGenerator[Any, None]:
    """Yield the open event stream; a fault that happens inside is told which request it belongs to."""
    request_id, status = "", None
    try:
        with _faults_named():
            async with client.chat.completions.with_streaming_response.create(  # type: ignore[call-overload]  # wants six TypedDicts of roles
                model=candidate.model,
                messages=request.messages,
                stream=True,
                stream_options={"include_usage": True},
                extra_headers={"Accept": "text/event-stream"},
                extra_body=_wishes(candidate, request),
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


class _Body:
    """The bytes of an answer as they arrive."""

    def __init__(self, response: httpx2.Response) -> None:
        # Without the layers that undo compression where there is none.
        is_encoded = "content-encoding" in response.headers
        self.chunks: AsyncIterator[bytes] = response.aiter_bytes() if is_encoded else response.aiter_raw()
        # Reached through two attributes that are not public. Where they are missing, nothing is paused, and costs more.
        stream = getattr(response.stream, "_stream", None)
        self._answer: Any = getattr(stream, "_aiohttp_response", None)

    async def pause(self) -> None:
        """Leave what arrives in the kernel for a moment, so that it is one read and not one for each token."""
        connection = self._answer and self._answer.connection  # None when everything has arrived
        transport: asyncio.Transport | None = connection and connection.transport
        if transport is None:
            await next_look()
        else:
            transport.pause_reading()
            try:
                await next_look()
            finally:
                transport.resume_reading()


async def _decoded(body: _Body, *, request_id: str) -> Pieces:
    """Decode the bytes of an event stream; all text of one network read becomes one piece.

    The first text is given at once. What arrives within MERGE_SECONDS behind a text is read in one go, so that every
    step from here to the client is done once for all of it.
    """
    decoder = Decoder()
    async for chunk in body.chunks:
        if text := decoder.read(chunk):
            yield text
        if decoder.is_done:
            break
        if decoder.any_text and len(chunk) < MORE_IS_THERE_BYTES:
            await body.pause()
    if not decoder.finish_reason:
        raise UpstreamFault("broken_stream", "no finish_reason", label="no finish_reason")
    if decoder.finish_reason == "content_filter":
        raise UpstreamFault("content_filtered", "finish_reason content_filter")
    if not decoder.any_text:
        raise UpstreamFault("broken_stream", f"no text, finish_reason {decoder.finish_reason}")
    await _read_to_the_end(body)
    yield decoder.ending(request_id)


async def _read_to_the_end(body: _Body) -> None:
    """Read what follows the last event, so that the connection is used again; whatever it is, the text is whole."""
    with suppress(TimeoutError, httpx2.HTTPError, httpx2.StreamError, OSError):
        async with asyncio.timeout(CLOSING_SECONDS):
            async for _ in body.chunks:
                pass
