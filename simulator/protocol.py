"""HTTP as uvicorn speaks it, with what it leaves out: the policy on its own refusals, and answers to HTTP/1.0.

Tried with uvicorn 0.54; tests/test_headers.py and tests/test_methods.py fail when its protocol changes.
"""

from functools import partial
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from simulator.policy import policy

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent


class Protocol(HttpToolsProtocol):
    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, which no application gets to see. The connection ends with it."""
        lines = [b"HTTP/1.1 400 Bad Request"]
        lines += [b"%s: %s" % header for header in policy(secure=False)]
        lines += [
            b"content-type: text/plain",
            b"content-length: %d" % len(msg),
            b"connection: close",
            b"",
            msg.encode(),
        ]
        self.transport.write(b"\r\n".join([*lines, b"", msg.encode()]))
        self.transport.close()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0":
            # HTTP/1.0 knows no chunks: the answer ends where the connection does.
            self.cycle.chunked_encoding = False
            self.cycle.send = partial(_send_until_closed, self.cycle)  # type: ignore[method-assign]


async def _send_until_closed(cycle: RequestResponseCycle, message: "ASGISendEvent") -> None:
    if message["type"] == "http.response.body":
        cycle.expected_content_length = len(message.get("body", b""))
    await RequestResponseCycle.send(cycle, message)
