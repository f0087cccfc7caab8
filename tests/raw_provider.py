"""A provider that answers with exactly the bytes it is told to, for what no honest server would send."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Raw:
    """An answer: each chunk is sent by itself. `stays_open` keeps the connection after the last.

    With `hold_after` so many are sent before `RawProvider.go_on`.
    """

    chunks: list[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    stays_open: bool = False
    hold_after: int | None = None


def frame(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def text_frame(text: str, **others: object) -> bytes:
    return frame({"choices": [{"index": 0, "delta": {"content": text}}], **others})


def end_frame(reason: str = "stop", **others: object) -> bytes:
    return frame({"choices": [{"index": 0, "delta": {}, "finish_reason": reason, **others}]})


DONE = b"data: [DONE]\n\n"


def stream(*texts: str, reason: str = "stop") -> Raw:
    return Raw([*(text_frame(text) for text in texts), end_frame(reason), DONE])


def error(status: int, body: object, **headers: str) -> Raw:
    """Return an error: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/html" if raw.startswith(b"<") else "application/json"
    return Raw([raw], status, {"Content-Type": kind, **headers})


class RawProvider(ThreadingHTTPServer):
    """Answers each request with what `answer` returns for its body, and keeps the bodies in `asked`."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answer: Callable[[Body], Raw] = lambda _: stream("Hello.")
        self.asked: list[Body] = []
        self.tells: dict[str, object] = {}
        self.is_over = Event()
        self.go_on = Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def always(self, answer: Raw) -> None:
        self.answer = lambda _: answer
        self.asked.clear()
        self.go_on.clear()


class _Handler(BaseHTTPRequestHandler):
    server: RawProvider

    def do_POST(self) -> None:  # the standard library's name
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        answer = self.server.answer(body)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for number, chunk in enumerate(answer.chunks):
            if number == answer.hold_after:
                self.server.go_on.wait(60)
            self.wfile.write(chunk)
            self.wfile.flush()
        if answer.stays_open:
            self.server.is_over.wait()

    def do_GET(self) -> None:  # the standard library's name
        told = self.server.tells.get(self.path)
        body = json.dumps({"error": "no such page"} if told is None else told).encode()
        self.send_response(404 if told is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@contextmanager
def running_provider() -> Iterator[RawProvider]:
    with RawProvider() as provider:
        Thread(target=provider.serve_forever, daemon=True).start()
        yield provider
        provider.is_over.set()
        provider.shutdown()
