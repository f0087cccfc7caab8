"""The simplest client that the contract promises to serve: it splits at blank lines and takes `data: ` lines.

It deliberately shares no code with the product.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx2

TIMEOUT = 30.0


class Stream:
    """An open stream of events. `cursor` is the id of the last event read, `chunks` are the bytes as they arrive."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.cursor = ""
        self.raw = b""
        self.chunks = response.iter_raw()
        self._waiting: list[dict[str, Any]] = []
        self._rest = b""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for chunk in self.chunks:
            self.raw += chunk
            *frames, self._rest = (self._rest + chunk).split(b"\n\n")
            for frame in frames:
                yield from self._event(frame.decode())

    def _event(self, frame: str) -> Iterator[dict[str, Any]]:
        lines = frame.split("\n")
        cursors = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]
        for line in lines:
            if line.startswith("data: "):
                self.cursor = cursors[0]
                yield json.loads(line.removeprefix("data: ")) | {"id": cursors[0]}

    def until(self, event_type: str) -> list[dict[str, Any]]:
        """Read up to the first event of a type."""
        seen = []
        for event in self:
            seen.append(event)
            if event["type"] == event_type:
                return seen
        raise AssertionError(f"no {event_type} in {[event['type'] for event in seen]}")


class Client:
    """A program that talks to the API."""

    def __init__(self, url: str, *, token: str = "", **headers: str) -> None:
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx2.Client(base_url=url, headers=authorization | headers, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.http.get(path, headers=headers)

    def post(self, path: str, body: object = None, **headers: str) -> httpx2.Response:
        return self.http.post(path, json=body, headers=headers)

    @contextmanager
    def stream(self, path: str, *, body: object = None, **headers: str) -> Iterator[Stream]:
        method = "GET" if body is None else "POST"
        with self.http.stream(method, path, json=body, headers=headers) as response:
            yield Stream(response)

    def events(self, path: str, *, body: object = None, **headers: str) -> list[dict[str, Any]]:
        """Read a stream to its end."""
        with self.stream(path, body=body, **headers) as stream:
            assert stream.response.status_code == 200, stream.response.read()
            return list(stream)


def text_of(events: list[dict[str, Any]], event_type: str = "token") -> str:
    return "".join(event["data"]["token"] for event in events if event["type"] == event_type)


def shown_text(events: list[dict[str, Any]], event_type: str = "token") -> str:
    """Give what a reader has at the end: what came behind the last reset."""
    resets = [place for place, event in enumerate(events) if event["type"] == "reset"]
    return text_of(events[resets[-1] :] if resets else events, event_type)


def types_of(events: list[dict[str, Any]]) -> list[str]:
    """Give the types of events, repeated ones once."""
    types: list[str] = []
    for event in events:
        if not types or types[-1] != event["type"]:
            types.append(event["type"])
    return types
