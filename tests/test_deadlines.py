"""Alive but silent: which clock runs out when, and what is slow but healthy."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from generation.models import Attempt, CandidateHealth
from professions.models import Profession
from tests.client import Client, types_of
from tests.conftest import KEY, ServerStarter
from tests.fake_openai import Behaviour, FakeOpenAI

ONE_MODEL = {"OPENAI_API_KEY": KEY, "OPENAI_FALLBACK_MODELS": ","}


def frame(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@contextmanager
def dripping_provider(*, seconds_between_bytes: float) -> Iterator[str]:
    """Serve one token at once and then the next frame, byte by byte."""
    over = Event()

    class Drip(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the standard library's name
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(frame("One "))
            for byte in frame("two.", "stop"):
                if over.wait(seconds_between_bytes):
                    return
                try:
                    self.wfile.write(bytes([byte]))
                except (TimeoutError, BrokenPipeError, ConnectionResetError):
                    return

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Drip) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        over.set()
        server.shutdown()


def play(url: str, token: str, profession: Profession) -> list[str]:
    with Client(url, token=token) as client:
        return types_of(client.events(f"/api/tasks/profession/{profession.pk}/current/stream"))


def test_bytes_that_make_no_token_do_not_keep_a_text_alive(
    start_own_server: ServerStarter, profession: Profession, alice_token: str
) -> None:
    with dripping_provider(seconds_between_bytes=0.3) as address:
        server = start_own_server(**ONE_MODEL, OPENAI_BASE_URL=address, LLM_IDLE_SECONDS="1")
        assert play(server.url, alice_token, profession) == ["metadata", "token", "reset", "token", "done"]
        attempt = Attempt.objects.get()
        assert (attempt.fault, attempt.detail) == ("provider_timeout", "no end in time; waited for the next token")


def test_a_model_that_thinks_long_and_writes_slowly_is_not_cut(
    start_own_server: ServerStarter, profession: Profession, alice_token: str, provider: FakeOpenAI
) -> None:
    patience = {"LLM_FIRST_TOKEN_SECONDS": "6", "LLM_IDLE_SECONDS": "1.5"}
    server = start_own_server(**ONE_MODEL, OPENAI_BASE_URL=provider.base_url, **patience)
    # Longer before the first token than it may pause later, and longer in all than it may think.
    provider.default = Behaviour(
        tokens=("One ", "two ", "three ", "four ", "five."), first_token_delay=3, tokens_per_second=1
    )
    assert play(server.url, alice_token, profession) == ["metadata", "token", "done"]
    attempt = Attempt.objects.get()
    assert attempt.outcome == "completed"
    assert attempt.first_token_seconds is not None
    assert 3 <= attempt.first_token_seconds < 6 < attempt.seconds


def test_a_text_that_never_ends_is_cut_off_by_the_clock(
    start_own_server: ServerStarter, profession: Profession, alice_token: str, provider: FakeOpenAI
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, LLM_TIMEOUT_SECONDS="2")
    provider.default = Behaviour(tokens=("word ",) * 1000, tokens_per_second=10)
    assert play(server.url, alice_token, profession)[-3:] == ["reset", "token", "done"]
    provider.wait_for(lambda fake: fake.requests[0].disconnected)
    assert len(provider.requests) == 1, "there was no time for another"
    assert Attempt.objects.get().fault == "took_too_long"
    assert not CandidateHealth.objects.exclude(failures=0).exists(), "it wrote as fast as it could"


def test_a_learner_waits_no_longer_than_one_text_may_take_however_many_candidates_are_silent(
    start_own_server: ServerStarter, profession: Profession, alice_token: str, provider: FakeOpenAI
) -> None:
    limits = {"LLM_TIMEOUT_SECONDS": "2.5", "LLM_FIRST_TOKEN_SECONDS": "1"}
    keys = ",".join(f"{KEY}{number}" for number in range(4))
    server = start_own_server(OPENAI_API_KEYS=keys, OPENAI_BASE_URL=provider.base_url, **limits)
    provider.default = Behaviour(first_token_delay=60)
    assert play(server.url, alice_token, profession) == ["metadata", "token", "done"]
    assert len(provider.requests) == 3
    assert sum(Attempt.objects.values_list("seconds", flat=True)) < 4


def test_a_slow_machine_of_ones_own_is_asked_once_for_a_text(
    start_own_server: ServerStarter, profession: Profession, alice_token: str, provider: FakeOpenAI
) -> None:
    own = {"OPENAI_BASE_URL": provider.base_url, "LLM_FIRST_TOKEN_SECONDS": "1"}
    server = start_own_server(OPENAI_MODEL="slow", OPENAI_FALLBACK_MODELS="slower,slowest", **own)
    provider.default = Behaviour(first_token_delay=60)
    assert play(server.url, alice_token, profession) == ["metadata", "token", "done"]
    assert [request.body["model"] for request in provider.requests] == ["slow"]
