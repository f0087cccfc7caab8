"""Whom to believe who a visitor is: the proxies named in TRUSTED_PROXIES, and nobody else."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from ipaddress import IPv6Address
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

logger = logging.getLogger("web.proxies")

UNIX_SOCKET = "unix"
MOST_REPORTED = 20


class BehindProxies:
    """An ASGI application that sees the visitor's address and scheme, as far as trusted proxies tell them.

    Of several addresses in `X-Forwarded-For` the visitor's is the rightmost that is no trusted proxy's: everything left
    of it may be invented.
    """

    def __init__(self, application: Application, trusted: Sequence[str]) -> None:
        self._with_headers_read: Any = ProxyHeadersMiddleware(application, trusted_hosts=list(trusted))  # type: ignore[arg-type]  # the same types by other names
        self._trusted = self._with_headers_read.trusted_hosts
        self._reported: set[str] = set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        host, port = scope.get("client") or (UNIX_SOCKET, 0)
        if host.startswith("::ffff:"):  # IPv4 that came to a socket of both kinds
            host = str(IPv6Address(host).ipv4_mapped or host)
        scope["client"] = (host, port)
        if host not in self._trusted:
            self._report(host, scope)
        await self._with_headers_read(scope, receive, send)

    def _report(self, host: str, scope: Message) -> None:
        """Log once for each peer that it speaks as a proxy does and is not believed."""
        if host in self._reported or len(self._reported) >= MOST_REPORTED:
            return
        if any(name == b"x-forwarded-proto" for name, _ in scope["headers"]):
            self._reported.add(host)
            logger.warning(
                "%s sent X-Forwarded-Proto and is not believed. If it is your proxy, add it to TRUSTED_PROXIES; "
                "otherwise visitors get no https and all have its address.",
                host,
            )
