"""Server-Sent Events: frames, headers, and giving back what Django would hold while a stream is open."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections
from django.http import HttpResponse, StreamingHttpResponse

CONTENT_TYPE = "text/event-stream"
# Sent at once, so that a proxy and the browser have a first byte to pass on: how long to wait before coming back,
# and a comment.
OPENING = b"retry: 1500\n: stream open\n\n"
COMMENT = b": still here\n\n"

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def frame(event_type: str, data: Mapping[str, object], *, event_id: str) -> bytes:
    """Return one event. JSON escapes newlines, so the frame is always one `data:` line."""
    return f'id: {event_id}\ndata: {{"type":"{event_type}","data":{_one_line(data)}}}\n\n'.encode()


def text_frame(event_type: str, text: str, *, event_id: str) -> bytes:
    """Return the event `{"token": text}`, as `frame` does; almost all events are this one."""
    return f'id: {event_id}\ndata: {{"type":"{event_type}","data":{{"token":{_one_line(text)}}}}}\n\n'.encode()


def _one_line(data: object) -> str:
    """Return data as JSON without what some clients take for line ends too, and JSON leaves as it is."""
    json_text = _dumps(data)
    if json_text.isascii():
        return json_text
    # Not str.translate, which takes 30 times as long: 80 ms for a million letters that are not Latin.
    return json_text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold the text back
    # Nothing may compress it either: small frames would be buffered and grow. HAProxy heeds `no-transform`; nginx and
    # Caddy 2.6, told to compress every type, skip only what names an encoding already; this one is none.
    "Content-Encoding": "identity",
}


class _Events(StreamingHttpResponse):
    """Spares every event two generators of Django's, which turn into bytes what is bytes already."""

    _iterator: AsyncIterator[bytes]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._iterator


def stream_response(frames: AsyncGenerator[bytes, None]) -> StreamingHttpResponse:
    """Return the response that sends these frames.

    They are to begin with `release_request_resources`, so that an open stream holds neither thread nor database
    connection, and OPENING.
    """
    return _Events(frames, content_type=CONTENT_TYPE, headers=HEADERS)


def headers_of_a_stream() -> HttpResponse:
    """Return the answer to HEAD: what a stream would say of itself, and nothing begun."""
    return HttpResponse(content_type=CONTENT_TYPE, headers=HEADERS)


async def release_request_resources() -> None:
    """Release the thread and the database connections of the request that this coroutine runs in.

    Under ASGI Django keeps one thread for each request until its response has been sent, and that thread keeps its
    connections: a thousand open streams would hold a thousand of both. So the connections are closed in that
    thread, and its executor is taken out of asgiref's table and told to end. Whatever synchronous code the request
    still runs gets a thread of its own again.

    This touches two internals of asgiref; simulator/checks.py looks at every start whether they are still there.
    """
    await sync_to_async(connections.close_all)()
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is not None:
        executor = SyncToAsync.context_to_thread_executor.pop(context, None)
        if executor is not None:
            executor.shutdown(wait=False)
