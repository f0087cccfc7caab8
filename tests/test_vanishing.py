"""Readers whose machine is gone without a word: no packet comes from them again, not even that they have left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts.models import User
from generation.model_request import Message
from generation.models import Generation
from tests.client import Client, text_of
from tests.conftest import KEY, Server, ServerStarter
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.kernel import Neighbour, connections, neighbour
from tests.waiting import required, wait_until

pytestmark = pytest.mark.quiet

READERS = 15
PIECE = "x" * 100_000
TEXT = PIECE * 40


@pytest.fixture
def other_machine() -> Iterator[Neighbour]:
    with neighbour() as machine:
        yield machine


def memory_of(server: Server) -> int:
    """Resident bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def test_readers_that_vanish_are_dropped_hold_no_text_and_disturb_nobody(
    start_own_server: ServerStarter, other_machine: Neighbour, provider: FakeOpenAI, alice: User, alice_token: str
) -> None:
    own = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url, "LLM_MAX_TOKENS": "1000000"}
    server = start_own_server("--host", "0.0.0.0", **own)  # noqa: S104
    provider.default = Behaviour(tokens=tuple(PIECE for _ in range(40)), hold_after=1)
    messages = [Message(role="user", content="Write.")]
    generation = Generation.objects.create(user=alice, source="model", messages=messages)
    path = f"/api/generations/{generation.pk}/stream"
    curl = [required("curl"), "-sN", "-H", f"Authorization: Bearer {alice_token}", "-H", f"Host: {server.url[7:]}"]
    address = f"http://{other_machine.our_address}:{server.port}{path}"
    readers = [other_machine.start(*curl, address) for _ in range(READERS)]
    for reader in readers:
        assert reader.stdout is not None
        assert any(b'"type":"token"' in line for line in reader.stdout)
    theirs = [end for end in connections() if end.remote_address == other_machine.address]
    assert sum(end.is_held_by(server.process.pid) for end in theirs) == READERS

    with Client(server.url, token=alice_token) as client, client.stream(path) as stream:
        seen = stream.until("token")
        before = memory_of(server)
        other_machine.vanish()
        provider.release()
        assert text_of(seen + list(stream)) == TEXT
        grown = memory_of(server) - before
        assert grown < READERS * len(TEXT) / 2
        wait_until(lambda: not any(end.is_held_by(server.process.pid) for end in theirs), what="the drop", seconds=60)
        assert text_of(client.events(path)) == TEXT
