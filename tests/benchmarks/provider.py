"""A provider that spends next to nothing on a token, so that the server under test is what gives out first.

What it sends is what tests/fake_openai.py sent when this process started, frame for frame; only the pace is its own.
Each token leaves in a write of its own, at its own time. `GET /sent` tells how many did and how many should have.
"""

import argparse
import asyncio
import itertools
import json
import re
import sys
from collections import deque
from dataclasses import dataclass

import httpx2
import uvloop

from tests.fake_openai import Behaviour, FakeOpenAI

# Each token has one, and nothing else that a server sends does: readers count tokens by counting bytes.
MARK = b"~"
# Below a millisecond uvloop does not sleep, and spinning takes the core from the readers.
_REST_SECONDS = 0.001
_WORDS = (" the~", " order~", " is~", " two~", " days~", " late~", ",~", " what~", " now~", "?~")
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Script:
    """The writes that make up an answer."""

    role: bytes
    tokens: tuple[bytes, ...]
    end: bytes

    @classmethod
    def recorded(cls) -> "Script":
        question = {
            "model": "gpt-4o-mini",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "Go on."}],
        }
        with FakeOpenAI(default=Behaviour(tokens=_WORDS)) as fake:
            answer = httpx2.post(f"{fake.base_url}/chat/completions", json=question)
        frames = [_chunk(frame + b"\n\n") for frame in answer.content.split(b"\n\n") if frame]
        tokens = tuple(frame for frame in frames if MARK in frame)
        last = frames.index(tokens[-1])
        return cls(b"".join(frames[: frames.index(tokens[0])]), tokens, b"".join(frames[last + 1 :]) + b"0\r\n\r\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(frozen=True, slots=True)
class Pace:
    tokens_per_second: float
    first_token_delay: float
    # The first answers may be longer than those that follow, for measures of what comes beside open streams.
    long_answers: int
    long_tokens: int
    tokens: int
    # Every so manieth answer begins so much later than the others; 0 for none.
    slow_every: int
    slow_seconds: float


@dataclass(slots=True)
class _Answer:
    transport: asyncio.Transport
    left: int
    due: float


class Pump:
    """Sends every token of every answer when it is due."""

    def __init__(self, script: Script, pace: Pace) -> None:
        self._script, self._pace = script, pace
        self._interval = 1 / pace.tokens_per_second
        # In the order in which they are due, which is that of their last tokens: the pace of all is the same.
        self._answers: deque[_Answer] = deque()
        self.answers = 0
        self._tokens = itertools.cycle(script.tokens)
        self._is_waiting = False
        self.sent = 0
        self.latest_seconds = 0.0

    def answer(self, transport: asyncio.Transport) -> None:
        self.answers += 1
        left = self._pace.long_tokens if self.answers <= self._pace.long_answers else self._pace.tokens
        is_slow = self._pace.slow_every and self.answers % self._pace.slow_every == 0
        loop = asyncio.get_running_loop()
        transport.write(_HEAD)
        begin_at = loop.time() + self._pace.first_token_delay + (self._pace.slow_seconds if is_slow else 0.0)
        loop.call_at(begin_at, self._begin, _Answer(transport, left, begin_at))

    def facts(self) -> dict[str, float]:
        late, self.latest_seconds = self.latest_seconds, 0.0
        return {"answers": self.answers, "sent": self.sent, "open": len(self._answers), "latest_seconds": late}

    def _begin(self, answer: _Answer) -> None:
        answer.transport.write(self._script.role)
        self._send(answer)
        if not self._is_waiting:
            self._send_due()

    def _send_due(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._answers:
            self.latest_seconds = max(self.latest_seconds, now - self._answers[0].due)
        while self._answers and self._answers[0].due <= now:
            self._send(self._answers.popleft())
        self._is_waiting = bool(self._answers)
        if self._answers:
            loop.call_at(max(self._answers[0].due, now + _REST_SECONDS), self._send_due)

    def _send(self, answer: _Answer) -> None:
        if answer.transport.is_closing():
            return
        data = next(self._tokens)
        answer.left -= 1
        answer.due += self._interval
        self.sent += 1
        if answer.left:
            answer.transport.write(data)
            self._answers.append(answer)
        else:
            answer.transport.write(data + self._script.end)


class _Connection(asyncio.Protocol):
    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what TCP gives
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        if head.startswith(b"GET /sent"):
            facts = json.dumps(self._pump.facts()).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(facts), facts))
        else:
            self._pump.answer(self._transport)


async def _serve(port: int, pump: Pump) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(pump), "127.0.0.1", port, backlog=4096)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.provider")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tokens-per-second", type=float, required=True)
    parser.add_argument("--first-token-delay", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--long-answers", type=int, default=0)
    parser.add_argument("--long-tokens", type=int, default=0)
    parser.add_argument("--slow-every", type=int, default=0)
    parser.add_argument("--slow-seconds", type=float, default=0.0)
    options = parser.parse_args()
    pace = Pace(
        tokens_per_second=options.tokens_per_second,
        first_token_delay=options.first_token_delay,
        long_answers=options.long_answers,
        long_tokens=options.long_tokens,
        tokens=options.tokens,
        slow_every=options.slow_every,
        slow_seconds=options.slow_seconds,
    )
    uvloop.run(_serve(options.port, Pump(Script.recorded(), pace)))


if __name__ == "__main__":
    main()
