"""The one way this site is served: ASGI. Streams need it; there is no WSGI entry point."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured

from simulator.environment import UnusableSettings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "simulator.settings")
try:
    site = get_asgi_application()
except UnusableSettings as unusable:
    sys.exit(str(unusable))

from django.conf import settings

from generation.process import Process  # needs the apps to be there
from tasks import retention
from web.bodies import bounded  # needs the settings
from web.policy import missing, policy
from web.proxies import BehindProxies, Message, Receive, Send

_policy, _policy_over_https = policy(secure=False), policy(secure=True)


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _live(scope, receive, send)
    elif "process" not in scope.get("state", {}):
        raise ImproperlyConfigured("Nothing would write texts: this server has no lifespan. Use manage.py serve.")
    else:
        scope, receive = await bounded(scope, receive)
        await _behind_proxies(scope, receive, send)


async def _answer(scope: Message, receive: Receive, send: Send) -> None:
    """Answer a request with the policy's headers, a new stream once it is its turn, which ends with the first byte."""
    turns = scope["state"]["process"].turns
    has_turn = scope["method"] == "GET" and scope["path"].endswith("/stream")
    has_begun = False

    def end_turn() -> None:
        nonlocal has_turn
        if has_turn:
            has_turn = False
            turns.release()

    async def send_on(message: Message) -> None:
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            headers = list(message.get("headers", ()))
            wanted = _policy_over_https if scope["scheme"] == "https" else _policy
            message["headers"] = headers + missing(wanted, headers)
        elif has_turn:
            end_turn()
        await send(message)

    if has_turn:
        await turns.acquire()
    try:
        await site(scope, receive, send_on)  # type: ignore[arg-type]  # asgiref's types of the same things
    except Exception:  # whatever it is, the answer carries the policy; it is raised again below
        if not has_begun:
            plain = [(b"content-type", b"text/plain"), (b"content-length", b"21")]
            await send_on({"type": "http.response.start", "status": 500, "headers": plain})
            await send_on({"type": "http.response.body", "body": b"Internal Server Error"})
        raise  # for the server, which logs it and ends the connection
    finally:
        end_turn()


_behind_proxies = BehindProxies(_answer, settings.TRUSTED_PROXIES)


async def _live(scope: Message, receive: Receive, send: Send) -> None:
    """Do what belongs to the server's start and to its end."""
    os.umask(0o077)  # as in manage.py, which need not have started this server
    await receive()
    process = scope["state"]["process"] = Process()  # each request's scope has the same state
    process.every(retention.SECONDS_BETWEEN, retention.delete_leftovers)
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
