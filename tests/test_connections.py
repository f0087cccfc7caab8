"""Connections to a provider are used again, however an answer's body ends."""

from collections.abc import Iterator

import pytest

from generation.model_request import ModelRequest
from generation.upstream import CompletionEnd, chat
from generation.upstream.candidates import Candidate
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.waiting import run_async


@pytest.fixture
def provider() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


def write_five(provider: FakeOpenAI) -> list[str]:
    """Ask for five texts one after the other, and return how each ended."""
    candidate = Candidate(provider="fake", base_url=provider.base_url, key="sk-test", key_number=1, model="a-model")

    async def scenario() -> list[str]:
        ends: list[str] = []
        clients = chat.Clients()
        try:
            for number in range(5):
                pieces = clients.stream(candidate, ModelRequest([{"role": "user", "content": str(number)}]))
                ends += [piece.finish_reason async for piece in pieces if isinstance(piece, CompletionEnd)]
        finally:
            await clients.close()
        return ends

    return run_async(scenario())


def test_texts_one_after_the_other_share_a_connection_though_a_body_ends_behind_its_last_event(
    provider: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "CLOSING_SECONDS", 30)  # however busy this machine is
    provider.default = Behaviour(text="One two.", closing_delay=0.02)
    assert write_five(provider) == ["stop"] * 5
    assert len({request.port for request in provider.requests}) == 1


def test_a_text_is_whole_though_its_body_never_ends(provider: FakeOpenAI) -> None:
    provider.default = Behaviour(text="One two.", closing_delay=60)
    assert write_five(provider) == ["stop"] * 5
