"""Requests that do not end, or say at their end what belongs to their beginning."""

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from tests.conftest import Server
from tests.waiting import wait_until
from web.protocol import MOST_HEAD_BYTES, Protocol
from web.proxies import Message, Receive, Send

pytestmark = pytest.mark.django_db(transaction=True)

ENDLESS_BYTES = 64 * 1024 * 1024  # more than any socket takes on its way


def answer_to(port: int, *parts: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("endless", [b"GET /", b"GET / HTTP/1.1\r\nCookie: ", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_without_end_is_refused(authored_server: Server, endless: bytes) -> None:
    line = b"X-More: " + b"a" * 1000 + b"\r\n" if endless.endswith(b"x\r\n") else b"a" * 1000
    with socket.create_connection(("127.0.0.1", authored_server.port), timeout=30) as connection:
        connection.sendall(endless)
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall(line * (ENDLESS_BYTES // len(line)))
    assert authored_server.answers()


def test_a_head_as_long_as_browsers_send_is_read(authored_server: Server) -> None:
    cookie = b"Cookie: " + b"a=b; " * (MOST_HEAD_BYTES // 10) + b"\r\n"
    host = b"Host: 127.0.0.1:%d\r\nConnection: close\r\n" % authored_server.port
    assert answer_to(authored_server.port, b"GET / HTTP/1.1\r\n", cookie, host, b"\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_header_behind_the_body_counts_for_nothing(authored_server: Server) -> None:
    """A proxy appends what it knows of a visitor to the headers in front, and passes on what stands behind."""
    head = (
        b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Forwarded-For: 192.0.2.7\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" % authored_server.port
    )
    behind = b"X-Forwarded-For: 198.51.100.9\r\nHost: evil.example\r\n"
    before = len(authored_server.log)
    answer = answer_to(authored_server.port, head, b"3\r\na=b\r\n0\r\n" + behind + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    line = '192.0.2.7:0 - "POST /accounts/login/'
    wait_until(lambda: line in authored_server.log[before:], what="the line of the request")
    assert "198.51.100.9" not in authored_server.log[before:]
    assert "evil.example" not in authored_server.log[before:]


async def _read_all(scope: Message, receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "http.request" and message["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


class HastyProtocol(Protocol):
    request_seconds = 0.2


@pytest.fixture
def hasty_port() -> Iterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(
            _read_all, port=0, http=HastyProtocol, loop="asyncio", lifespan="off", log_config=None, ws="none"
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, what="the server's start")
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"GET / HTTP/1.1\r\nHo",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",
    ],
)
def test_a_request_that_does_not_come_to_its_end_is_given_up(hasty_port: int, part: bytes) -> None:
    answer = answer_to(hasty_port, part)
    assert answer.count(b"HTTP/1.1 204 ") == part.count(b"\r\n\r\nGET")
