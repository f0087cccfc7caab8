"""Finding programs and ports, and waiting for what is to happen."""

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], *, what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.02)  # between two looks at the condition


def run_async(work: Coroutine[None, None, T]) -> T:
    """Run a coroutine in a thread of its own: in the tests' thread Playwright keeps an event loop running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
