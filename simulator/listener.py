"""The socket that the site is served on, taken before anything else is done; what stands against it is a sentence."""

import errno
import re
import socket
from pathlib import Path

STALLED_READER_SECONDS = 30
HIGHEST_PORT = 65_535
NEIGHBOURS = 100


class CannotListen(Exception):
    """An address that cannot be served on; the message says what to do."""


def port_number(text: str) -> int:
    """Return a port; 0 lets the system choose one."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > HIGHEST_PORT:
        raise CannotListen(f"{text!r} is no port; choose a number from 1 to {HIGHEST_PORT}, or 0 for any free one")
    return int(text)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, which nobody can connect to yet."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise CannotListen(
            f"The host {host!r} is not known here; 127.0.0.1 is this machine, 0.0.0.0 all its addresses"
        ) from error
    family, _, _, _, address = found[0]
    try:
        return _bound(family, address)
    except OSError as error:
        raise CannotListen(_sentence(error, host, port, family, address)) from error


def bind_unix(path: Path) -> socket.socket:
    """Return a unix socket for a proxy on this computer; whoever may reach its folder may connect."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and _is_left_behind(path):
            path.unlink()
        sock.bind(str(path))
        path.chmod(0o666)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(f"{path} is taken; stop what serves there, or choose another path") from error
        raise CannotListen(f"{path} cannot be made: {error.strerror}; choose a folder that may be written") from error
    sock.set_inheritable(True)
    return sock


def _is_left_behind(path: Path) -> bool:
    """Return whether the server of a unix socket is gone."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def listen(bound: socket.socket, *, backlog: int) -> None:
    """Start to accept connections."""
    try:
        bound.listen(backlog)
    except OSError as error:  # another process that started at the same moment was faster
        host, port = bound.getsockname()[:2]
        raise CannotListen(_sentence(error, host, port, bound.family, bound.getsockname())) from error


def address_of(bound: socket.socket) -> str:
    """Return the URL of a bound socket, or the path of a unix one."""
    if bound.family == socket.AF_UNIX:
        return str(bound.getsockname())
    return url_of(*bound.getsockname()[:2])


def url_of(host: str, port: int) -> str:
    """Return `http://HOST:PORT`, with brackets around IPv6."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The kernel drops a reader that takes nothing, or is gone without a word, when this much time has passed with
        # something to send; streams send a comment at least every 15 s. Connections inherit it from the listener.
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_READER_SECONDS * 1000)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    sock.set_inheritable(True)
    return sock


def _sentence(error: OSError, host: str, port: int, family: int, address: tuple[object, ...]) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            free = _free_port_above(port, family, address)
            return f"Port {port} is taken; " + (f"PORT={free} chooses another" if free else "PORT chooses another")
        case errno.EACCES | errno.EPERM:
            return f"Port {port} is for root alone; PORT=8000 chooses one for everybody, and a proxy can stand in front"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; 127.0.0.1 is, and 0.0.0.0 is all of them"
        case _:
            return f"{host} port {port} cannot be served on: {error.strerror}; choose another host or port"


def _free_port_above(port: int, family: int, address: tuple[object, ...]) -> int | None:
    for other in range(port + 1, min(port + NEIGHBOURS, HIGHEST_PORT) + 1):
        try:
            with _bound(family, (address[0], other, *address[2:])) as sock:
                sock.listen()
                return other
        except OSError:
            continue
    return None
