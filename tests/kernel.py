"""What the kernel says about TCP connections, and a machine on the network that can vanish."""

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import IN_CI, required


@dataclass(frozen=True)
class Connection:
    """One end of a TCP connection over IPv4."""

    local_port: int
    remote_address: str
    is_listener: bool
    inode: str

    def is_held_by(self, pid: int) -> bool:
        return f"socket:[{self.inode}]" in _open_files(pid)


def connections() -> list[Connection]:
    found = []
    for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, state, *more = row.split()
        address = socket.inet_ntoa(struct.pack("<L", int(remote.partition(":")[0], 16)))
        found.append(Connection(int(local.partition(":")[2], 16), address, state == "0A", more[5]))
    return found


def _open_files(pid: int) -> set[str]:
    try:
        return {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: PTH115  # a name, no path
    except OSError:
        return set()  # it ended meanwhile, or closed one


class Neighbour:
    """Another machine on a network of its own, as far as TCP can tell: a network namespace."""

    name = f"neighbour-{os.getpid()}"
    # Of the range that is set aside for tests of networks.
    our_address, address = (f"198.18.{os.getpid() % 256}.{host}" for host in (1, 2))
    _cable, _far_end = f"to-n{os.getpid()}", f"eth{os.getpid()}"

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def plug_in(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", self._far_end, "netns", self.name)
        _ip("address", "add", f"{self.our_address}/30", "dev", self._cable)
        _ip("-n", self.name, "address", "add", f"{self.address}/30", "dev", self._far_end)
        _ip("link", "set", self._cable, "up")
        _ip("-n", self.name, "link", "set", self._far_end, "up")

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        there = [required("ip"), "netns", "exec", self.name, *command]
        self._started.append(subprocess.Popen(there, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        return self._started[-1]

    def vanish(self) -> None:
        """Answer nothing any more, not even that a connection is gone."""
        _ip("-n", self.name, "address", "flush", "dev", self._far_end)

    def unplug(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()
        _ip("link", "delete", self._cable)
        _ip("netns", "delete", self.name)


@contextmanager
def neighbour() -> Iterator[Neighbour]:
    """Give a machine that can vanish; skips where networks may not be made, fails there in CI."""
    required("ip")
    if os.geteuid() != 0:
        (pytest.fail if IN_CI else pytest.skip)("only root may make a network")
    machine = Neighbour()
    machine.plug_in()
    try:
        yield machine
    finally:
        machine.unplug()


def _ip(*arguments: str) -> None:
    subprocess.run([required("ip"), *arguments], check=True)
