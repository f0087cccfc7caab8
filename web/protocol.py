"""HTTP as uvicorn speaks it, with what it leaves out.

That is the policy on its own refusals, answers to HTTP/1.0, and bounds on the size of a request's head and on the time
in which a request has to arrive. Tried with uvicorn 0.54; tests/test_headers.py, tests/test_methods.py and
tests/test_requests.py fail when its protocol changes.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from web.policy import policy

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent


# nginx takes 32 KB in its own configuration. What has arrived at once is read at once, so a little more may pass.
MOST_HEAD_BYTES = 64 * 1024


class Protocol(HttpToolsProtocol):
    # A body has 256 KB at most: a telephone with a bad connection is in time, and who sends a byte now and then is not.
    request_seconds: ClassVar[float] = 60

    _is_in_head = False
    _head_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_a_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._is_in_head
        super().data_received(data)
        self._head_bytes += len(data) if was_in_head else 0
        if self._is_in_head and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.logger.warning("Refused a request whose headers have no end.")
            self.send_400_response("Request header fields too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0
        if self._deadline is None:
            self._expect_a_request()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Behind the body, where proxies look at nothing, a header would count as if it stood in front.
        if self._is_in_head:
            super().on_header(name, value)

    def on_message_complete(self) -> None:
        self._expect_nothing()
        super().on_message_complete()

    def _expect_a_request(self) -> None:
        self._deadline = self.loop.call_later(self.request_seconds, self._give_up)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self.flow.read_paused:  # what is missing may have arrived and waits for us
            self._expect_a_request()
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, which no application gets to see. The connection ends with it."""
        lines = [b"HTTP/1.1 400 Bad Request"]
        lines += [b"%s: %s" % header for header in policy(secure=False)]
        lines += [b"content-type: text/plain", b"content-length: %d" % len(msg), b"connection: close"]
        self.transport.write(b"\r\n".join([*lines, b"", msg.encode()]))
        self.transport.close()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0":
            # HTTP/1.0 knows no chunks: the answer ends where the connection does.
            self.cycle.chunked_encoding = False
            self.cycle.send = partial(_send_until_closed, self.cycle)  # type: ignore[method-assign]


async def _send_until_closed(cycle: RequestResponseCycle, message: "ASGISendEvent") -> None:
    if message["type"] == "http.response.body":
        cycle.expected_content_length = len(message.get("body", b""))
    await RequestResponseCycle.send(cycle, message)
