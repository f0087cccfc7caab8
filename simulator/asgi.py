"""The one way this site is served: ASGI. Streams need it; there is no WSGI entry point."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "simulator.settings")
site = get_asgi_application()

from generation import process  # noqa: E402  # needs the apps to be there
from simulator.bodies import bounded  # noqa: E402  # needs the settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


# Until its first byte a stream holds a thread and mostly a database connection, as any request does. After a restart
# all readers come back at the same moment, so only so many of them are let in at a time.
_turns = asyncio.Semaphore(12)


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    scope, receive = await bounded(scope, receive)
    if scope["method"] == "GET" and scope["path"].endswith("/stream"):
        await _in_turn(scope, receive, send)
    else:
        await site(scope, receive, send)  # type: ignore[arg-type]  # asgiref's types of the same things


async def _in_turn(scope: Message, receive: Receive, send: Send) -> None:
    """Serve a request once it is its turn, which ends with the first byte of the answer."""
    await _turns.acquire()
    is_its_turn = True

    def end_turn() -> None:
        nonlocal is_its_turn
        if is_its_turn:
            is_its_turn = False
            _turns.release()

    async def send_on(message: Message) -> None:
        if is_its_turn and message["type"] == "http.response.body":
            end_turn()
        await send(message)

    try:
        await site(scope, receive, send_on)  # type: ignore[arg-type]
    finally:
        end_turn()


async def _live(receive: Receive, send: Send) -> None:
    """Do what belongs to the server's start and to its end."""
    await receive()
    await process.start()
    leaving: list[asyncio.Task[None]] = []

    def leave() -> None:
        if not leaving:
            leaving.append(asyncio.get_running_loop().create_task(process.leave()))

    _on_termination(leave)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    leave()
    await leaving[0]
    await send({"type": "lifespan.shutdown.complete"})


def _on_termination(leave: Callable[[], None]) -> None:
    """Call `leave` at the first signal to end, before the server acts on it.

    The server itself waits for open streams to end and only then says that it shuts down; so the streams have to hear
    of it earlier than that.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        servers_own = signal.getsignal(number)

        def handle(number: int, frame: FrameType | None, servers_own: Any = servers_own) -> None:
            loop.call_soon_threadsafe(leave)
            if callable(servers_own):
                servers_own(number, frame)

        signal.signal(number, handle)
