"""Bodies of requests: none is read beyond the limit, and each has a length by the time Django sees it.

Django reads a whole body into a file before it looks at anything, and compares with its limit only what
`Content-Length` says, which a body sent in chunks has not.
"""

from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

from web.middleware import GetResponse
from web.proxies import Message, Receive


async def bounded(scope: Message, receive: Receive) -> tuple[Message, Receive]:
    """Return the request with its length said, and with nothing to read where that is over the limit.

    What such a client still sends is taken and dropped, so that it comes to read the answer.
    """
    headers = dict(scope["headers"])
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if b"content-length" in headers:
        if int(headers[b"content-length"]) <= limit:
            return scope, receive
        return scope, _replay({"type": "http.request"}, receive)
    if b"transfer-encoding" not in headers:
        return scope, receive
    body = bytearray()
    is_complete = False
    while not is_complete and len(body) <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            return scope, _replay(message, receive)
        body += message.get("body", b"")
        is_complete = not message.get("more_body", False)
    length = (b"content-length", str(len(body)).encode())
    others = [header for header in scope["headers"] if header[0] != b"transfer-encoding"]
    kept = bytes(body) if len(body) <= limit else b""
    scope["headers"] = [*others, length]  # in place: the server's access log names the client of this scope
    return scope, _replay({"type": "http.request", "body": kept}, receive)


def _replay(first: Message, receive: Receive) -> Receive:
    """Return a `receive` that answers with `first`, and after it only with the client's departure."""
    waiting = [first]

    async def receive_next() -> Message:
        if waiting:
            return waiting.pop()
        while (message := await receive())["type"] == "http.request":
            pass
        return message

    return receive_next


@async_only_middleware
def refuse_large_bodies(get_response: GetResponse) -> GetResponse:
    """Refuse a body over the limit on every address, whether or not a view would read it."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise RequestDataTooBig("The body is larger than DATA_UPLOAD_MAX_MEMORY_SIZE.")
        return await get_response(request)

    markcoroutinefunction(middleware)
    return middleware
