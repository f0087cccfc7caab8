"""Finding programs and ports, and waiting for what is to happen."""

import asyncio
import os
import random
import shutil
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import pytest

T = TypeVar("T")
IN_CI = os.environ.get("CI") == "true"


def required(program: str, *, also: str = "/usr/sbin") -> str:
    """Give the path of a program that a test needs; skips without it, fails in CI."""
    path = shutil.which(program, path=f"{also}:{os.environ['PATH']}:/usr/sbin")
    if path is None:
        (pytest.fail if IN_CI else pytest.skip)(f"{program} is not installed")
    return path


def _ports() -> Iterator[int]:
    """Yield ports below those that the system gives to connections, others in each worker and each run."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first, count = 12_000 + 5_000 * (worker % 4), 5_000
    start = random.randrange(count)  # noqa: S311  # no secret
    while True:
        yield from (first + (start + number) % count for number in range(count))


_candidates = _ports()


def free_port() -> int:
    """Return a port on which nobody listens, and which nobody gets who does not ask for it."""
    for port in _candidates:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


def wait_until(condition: Callable[[], bool], *, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.02)  # between two looks at the condition


def run_async(work: Coroutine[None, None, T]) -> T:
    """Run a coroutine in a thread of its own: in the tests' thread Playwright keeps an event loop running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
