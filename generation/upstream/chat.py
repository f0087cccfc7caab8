"""Texts from a model: the openai package's chat completions with `stream=True`, wrapped in a generator.

Two deliberate deviations from the package's usual way. It would build a pydantic object for each token, which costs
several times what everything else on the path does; so the raw response is read, and decoded in decoder.py. And it
would retry by itself, out of sight; so its retries are off.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import openai

from generation import finish_reasons
from generation.finish_reasons import Meaning
from generation.model_request import ModelRequest
from generation.pace import next_look
from generation.upstream import CompletionEnd, Pieces, Withdrawn, Working, context, wishes
from generation.upstream.candidates import Candidate
from generation.upstream.classify import classify, of_refusal, was_never_sent
from generation.upstream.decoder import MALFORMED, Decoder, ErrorInside
from generation.upstream.faults import UpstreamFault
from generation.upstream.thinking import Thoughts
from generation.upstream.usage import Usage
from web.logs import visible

logger = logging.getLogger("generation.upstream.chat")

CONNECT_SECONDS = 10.0
# One provider connection for each text being written. Whoever comes above the bound is told so at once: waiting for
# one would look like a slow provider, and it is not the provider's fault.
MAX_CONNECTIONS = 4000

# A server closes its idle connections at a moment of its own, and that may be the one at which they are used again.
MOST_CLOSED_CONNECTIONS = 3

# What the end of a body is waited for behind the last event; it mostly comes with it.
CLOSING_SECONDS = 0.2

# A read of this size took all that one read takes: there is more, and a fast provider is not to be held up.
MORE_IS_THERE_BYTES = 8192

# What usage is waited for behind the end of a text.
USAGE_SECONDS = 2.0

# A token is seldom longer. A text of more characters than twice the tokens asked for can have is cut.
MOST_CHARACTERS_PER_TOKEN = 6


class Clients:
    """The openai package's clients of a process, one for each key. Their connections belong to one event loop."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], openai.AsyncOpenAI] = {}
        self._asked = 0

    async def stream(
        self, candidate: Candidate, request: ModelRequest, *, refused: Collection[str] = (), thinks_first: bool = False
    ) -> Pieces:
        """Yield the pieces of one completion, then its CompletionEnd.

        Args:
            refused: the wishes that this candidate is known not to take (wishes.py).
            thinks_first: whether it is known to begin with its thoughts without saying so.

        Raises:
            UpstreamFault: whenever the text is not there whole, a clean end without `finish_reason` included; also for
                a mistake of ours, so that it never keeps the next candidate from being asked.
        """
        try:
            with self._connection():
                async with _response(self._client_for(candidate), candidate, request, refused) as response:
                    answer = _Answer(response, candidate, request, thinks_first=thinks_first)
                    async for piece in answer.pieces():
                        yield piece
        except UpstreamFault:
            raise
        except Exception as error:
            logger.exception("%s cannot be asked", candidate)
            raise UpstreamFault("candidate_unusable", type(error).__name__, label=type(error).__name__) from error

    async def context_tokens(self, candidate: Candidate) -> int | None:
        """Return how many tokens a candidate reads at most, None where its server does not tell."""
        addresses = [context.OF_ALL]
        if candidate.is_local:
            parts = urlsplit(candidate.base_url)
            addresses += [f"{parts.scheme}://{parts.netloc}{path}" for path in context.OF_LOCAL]
        answers = await asyncio.gather(*(self._get(candidate, address) for address in addresses))
        sizes = [size for answer in answers if (size := context.told(answer, candidate.model)) is not None]
        return min(sizes) if sizes else None

    async def _get(self, candidate: Candidate, address: str) -> object:
        """Return the JSON that a candidate's server has at an address, None where it has none."""
        try:
            return await self._client_for(candidate).get(address, cast_to=object)
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError, ValueError):
            return None

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
        # An address that leads elsewhere is a wrong address: behind a redirect a POST mostly becomes a GET.
        http_client=openai.DefaultAioHttpClient(
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS), follow_redirects=False
        ),
    )


@contextmanager
def _faults_named(base_url: str) -> Iterator[None]:
    """Raise whatever goes wrong at a provider as UpstreamFault."""
    try:
        yield
    except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError, *MALFORMED) as error:
        raise classify(error, base_url=base_url) from error


@asynccontextmanager
async def _response(
    client: openai.AsyncOpenAI, candidate: Candidate, request: ModelRequest, refused: Collection[str]
) -> AsyncGenerator[Any, None]:
    """Yield the open answer; a fault that happens inside is told which request it belongs to."""
    request_id, status = "", None

    def ask() -> AbstractAsyncContextManager[Any]:
        return client.chat.completions.with_streaming_response.create(
            model=candidate.model,
            messages=wishes.messages(request, refused=refused),  # type: ignore[arg-type]  # wants six TypedDicts
            stream=True,
            extra_headers={"Accept": "text/event-stream"},
            extra_body=wishes.parameters(request, base_url=candidate.base_url, refused=refused),
        )

    try:
        with _faults_named(candidate.base_url):
            async with AsyncExitStack() as stack:
                response = await _enter(stack, ask)
                request_id, status = _request_id(response), response.status_code
                yield response
    except UpstreamFault as fault:
        fault.status = fault.status or status
        fault.request_id = fault.request_id or request_id
        fault.refused_wish = wishes.narrowed(fault.refused_wish, request, refused=refused)
        fault.say_reason(unless_in=[message["content"] for message in request.messages])
        raise


async def _enter(stack: AsyncExitStack, ask: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
    """Return the answer to a request, asked again over another connection where one was closed before it was sent."""
    for _ in range(MOST_CLOSED_CONNECTIONS):
        try:
            return await stack.enter_async_context(ask())
        except openai.APIConnectionError as error:
            if not was_never_sent(error):
                raise
    return await stack.enter_async_context(ask())


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


class _Answer:
    """One answer of a provider, decoded."""

    def __init__(self, response: Any, candidate: Candidate, request: ModelRequest, *, thinks_first: bool) -> None:
        self._body = _Body(response.http_response)
        self._request_id = _request_id(response)
        self._request = request
        self._candidate = candidate
        self._decoder = Decoder()
        self._thoughts = Thoughts(starts_inside=thinks_first)
        self._characters = 0
        self._any_text = False
        self._most_characters = 2 * request.max_tokens * MOST_CHARACTERS_PER_TOKEN

    @property
    def _is_too_long(self) -> bool:
        return self._characters >= self._most_characters

    async def pieces(self) -> Pieces:
        """Yield what has come as one piece for each network read.

        The first text is given at once. What arrives within MERGE_SECONDS behind a text is read in one go, so that
        every step from here to the client is done once for all of it.
        """
        decoder = self._decoder
        async for chunk in self._body.chunks:
            for piece in self._read(chunk):
                yield piece
            if decoder.is_done or decoder.has_ended_well or self._is_too_long:
                break
            if self._any_text and len(chunk) < MORE_IS_THERE_BYTES:
                await self._body.pause()
        async with aclosing(self._chunks_behind_a_good_end()) as chunks:
            async for chunk in chunks:
                for piece in self._read(chunk):
                    yield piece
        for piece in self._shown("" if self._is_too_long else self._decode(None)):
            yield piece
        if rest := self._thoughts.rest():
            self._any_text = self._any_text or bool(rest.strip())
            yield rest
        end = self._end()
        await _read_to_the_end(self._body)
        yield end

    async def _chunks_behind_a_good_end(self) -> AsyncGenerator[bytes, None]:
        """Yield what still comes: no longer than usage is worth waiting for, whatever happens meanwhile."""
        until = asyncio.get_running_loop().time() + USAGE_SECONDS
        while self._decoder.has_ended_well and not (self._decoder.is_done or self._is_too_long):
            try:
                async with asyncio.timeout_at(until):
                    chunk = await anext(self._body.chunks)
            except (StopAsyncIteration, TimeoutError, httpx2.HTTPError, httpx2.StreamError, OSError):
                return
            yield chunk

    def _read(self, chunk: bytes) -> Iterator[str | Working | Withdrawn]:
        """Yield what a chunk brings: text, and signs that the model is at work."""
        decoder = self._decoder
        had_begun, reasoned = decoder.has_begun, decoder.reasoned
        yield from self._shown(self._decode(chunk))
        if decoder.reasoned > reasoned or (decoder.has_begun and not had_begun and not self._any_text):
            yield Working(decoder.reasoned - reasoned)

    def _decode(self, chunk: bytes | None) -> str:
        """Return the text of a chunk, or of what was left at the end of all; nothing behind a good end is a fault."""
        try:
            return self._decoder.finish() if chunk is None else self._decoder.read(chunk)
        except ErrorInside as error:
            if not self._decoder.has_ended_well:
                raise of_refusal(error.refusal, status=200, base_url=self._candidate.base_url) from error
        except MALFORMED:
            if not self._decoder.has_ended_well:
                raise
        return self._decoder.decoded()

    def _shown(self, text: str) -> Iterator[str | Working | Withdrawn]:
        """Yield what a reader is to see of a text, and that there was more where there was."""
        text = text[: self._most_characters - self._characters]
        if not text:
            return
        self._characters += len(text)
        was_thought = self._thoughts.was_thought
        shown = self._thoughts.read(text)
        if self._thoughts.was_thought and not was_thought:
            self._any_text = False
            yield Withdrawn()
        if shown:
            self._any_text = self._any_text or not shown.isspace()
            yield shown
        if len(shown) < len(text):
            yield Working(len(text) - len(shown))

    def _end(self) -> CompletionEnd:
        """Return how the text ended. Raises UpstreamFault where it is none."""
        decoder = self._decoder
        reason = decoder.finish_reason or ("stop" if decoder.is_done and self._any_text else "")
        if self._is_too_long:
            reason = finish_reasons.LENGTH
        if not reason:
            raise UpstreamFault("broken_stream", "no finish_reason", label="no finish_reason")
        said = f"finish_reason {reason}"
        if decoder.native_finish_reason:
            said += f" ({decoder.native_finish_reason})"
        match finish_reasons.meaning(reason, native=decoder.native_finish_reason):
            case Meaning.BROKEN:
                raise UpstreamFault("broken_stream", said, label=visible(said)[:120])
            case Meaning.FILTERED:
                raise UpstreamFault("content_filtered", said)
            case Meaning.CUT:
                reason = finish_reasons.LENGTH
        if not self._any_text:
            raise UpstreamFault("broken_stream", f"no text, {said}", label=visible(f"no text, {said}")[:120])
        if not finish_reasons.is_known(reason):
            logger.warning("an unknown %s is taken as an end", visible(said)[:120])
        usage = Usage.read(decoder.usage, self._request, characters=self._characters + decoder.reasoned)
        return CompletionEnd(
            finish_reason=visible(reason)[:32],
            model=self._candidate.model,  # what a server calls itself may be a file's path
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            request_id=self._request_id,
        )


async def _read_to_the_end(body: _Body) -> None:
    """Read what follows the last event, so that the connection is used again; whatever it is, the text is whole."""
    with suppress(TimeoutError, httpx2.HTTPError, httpx2.StreamError, OSError):
        async with asyncio.timeout(CLOSING_SECONDS):
            async for _ in body.chunks:
                pass
