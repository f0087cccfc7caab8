"""A text that is being written is read a few times a second, and not for each token."""

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp.client_proto import ResponseHandler

from generation.model_request import ModelRequest
from generation.pace import MERGE_SECONDS, TOGETHER_SECONDS, next_look
from generation.upstream import CompletionEnd, Piece
from generation.upstream.candidates import Candidate
from generation.upstream.chat import Clients
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.waiting import run_async

TOKENS = tuple(f"{number} " for number in range(150))


@pytest.fixture
def provider() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(default=Behaviour(tokens=TOKENS, tokens_per_second=300, hold_after=1)) as fake:
        yield fake


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of everything that was read from a provider."""
    lengths: list[int] = []
    read = ResponseHandler.data_received

    def counted(self: ResponseHandler, data: bytes) -> None:
        if data:  # nothing is its way to have what is there already parsed
            lengths.append(len(data))
        read(self, data)

    monkeypatch.setattr(ResponseHandler, "data_received", counted)
    return lengths


def test_tokens_that_arrive_close_together_are_one_read_and_one_piece(provider: FakeOpenAI, reads: list[int]) -> None:
    candidate = Candidate(provider="fake", base_url=provider.base_url, key="sk-test", key_number=1, model="a-model")

    async def scenario() -> list[Piece]:
        clients, pieces = Clients(), []
        try:
            async for piece in clients.stream(candidate, ModelRequest([{"role": "user", "content": "Count."}])):
                pieces.append(piece)
                provider.release()  # the rest comes only when the first token was given
        finally:
            await clients.close()
        return pieces

    *pieces, ending = run_async(scenario())
    assert isinstance(ending, CompletionEnd)
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == "".join(TOKENS)
    assert next(piece for piece in pieces if isinstance(piece, str)) == TOKENS[0]
    assert len(pieces) < len(TOKENS) / 3
    assert len(reads) < len(TOKENS) / 3


def test_many_look_at_the_same_moments() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        moments: list[float] = []

        async def look(after: float) -> None:
            await asyncio.sleep(after)
            began = loop.time()
            await next_look()
            assert loop.time() - began >= MERGE_SECONDS - 2 * TOGETHER_SECONDS
            moments.append(loop.time())

        await asyncio.gather(*(look(number * TOGETHER_SECONDS / 25) for number in range(25)))
        # All began within the time of two moments, and a late one may make it three.
        assert len({round(moment / TOGETHER_SECONDS) for moment in moments}) <= 3

    run_async(scenario())
