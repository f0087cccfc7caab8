"""The servers of a run, each a process of its own on the core that is meant for it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.benchmarks.machine import OTHER_CORES, SERVER_CORES, Stopwatch
from tests.fake_openai import AS_OPENAI
from tests.waiting import free_port

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-test-0123456789abcdefghijklmnopqrstuv"
START_SECONDS = 60.0
# Below this share of the tokens asked for the provider was not what it is to be.
LEAST_SHARE = 0.99


class Spoiled(Exception):
    """What was to be measured was not, because something other than the server gave out."""


@dataclass(frozen=True, slots=True)
class Running:
    pid: int
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Provider:
    process: Running
    tokens_per_second: float
    first_token_delay: float

    @property
    def environment(self) -> dict[str, str]:
        return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{self.process.url}/v1", **AS_OPENAI}

    def facts(self) -> dict[str, float]:
        facts: dict[str, float] = httpx2.get(f"{self.process.url}/sent").json()
        return facts


class Watch:
    """Whether provider and readers keep their pace between now and `check`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._before = provider.facts()
        self._provider_time, self._own_time = Stopwatch(provider.process.pid), Stopwatch(os.getpid())

    def check(self) -> str:
        """Say what was delivered at which cost. Raises Spoiled if that was less than asked for."""
        facts = self._provider.facts()
        asked = min(facts["open"], self._before["open"]) * self._provider.tokens_per_second
        sent = (facts["sent"] - self._before["sent"]) / self._provider_time.seconds
        said = (
            f"provider {sent:,.0f} of {asked:,.0f} tokens/s, latest {facts['latest_seconds'] * 1000:.0f} ms, "
            f"{self._provider_time.share:.0%} of its core; readers {self._own_time.share:.0%}"
        )
        if sent < LEAST_SHARE * asked:
            raise Spoiled(f"the provider fell behind: {said}")
        return said


@contextmanager
def provider(
    directory: Path,
    *,
    tokens_per_second: float,
    tokens: int,
    first_token_delay: float = 0.0,
    long_answers: int = 0,
    long_tokens: int = 0,
    slow_every: int = 0,
    slow_seconds: float = 0.0,
) -> Iterator[Provider]:
    arguments = {
        "tokens-per-second": tokens_per_second,
        "tokens": tokens,
        "first-token-delay": first_token_delay,
        "long-answers": long_answers,
        "long-tokens": long_tokens,
        "slow-every": slow_every,
        "slow-seconds": slow_seconds,
    }
    options = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "tests.benchmarks.provider", *options]
    with _running(command, directory=directory, environment={}, cores=OTHER_CORES, page="/sent") as process:
        yield Provider(process, tokens_per_second, first_token_delay)


@contextmanager
def product(directory: Path, *, environment: dict[str, str]) -> Iterator[Running]:
    """The site as it ships: sessions, database, durable log. Only, the texts of a run last longer than any task's."""
    command = [sys.executable, "manage.py", "serve"]
    long = {"LLM_TIMEOUT_SECONDS": "900"}
    with _running(
        command, directory=directory, environment=long | environment, cores=SERVER_CORES, page="/healthz"
    ) as process:
        yield process


@contextmanager
def passthrough(directory: Path, *, environment: dict[str, str]) -> Iterator[Running]:
    options = ["--loop", "uvloop", "--http", "httptools", "--log-level", "warning", "--backlog", "4096"]
    command = [sys.executable, "-m", "uvicorn", "tests.benchmarks.passthrough:app", "--no-access-log", *options]
    with _running(command, directory=directory, environment=environment, cores=SERVER_CORES, page="/") as process:
        yield process


@contextmanager
def relay(directory: Path, *, environment: dict[str, str]) -> Iterator[Running]:
    command = [sys.executable, "-m", "tests.benchmarks.relay"]
    with _running(command, directory=directory, environment=environment, cores=SERVER_CORES, page="/") as process:
        yield process


@contextmanager
def _running(
    command: Sequence[str], *, directory: Path, environment: dict[str, str], cores: set[int], page: str
) -> Iterator[Running]:
    port = free_port()
    own = {"SITE_URL": f"http://127.0.0.1:{port}"}
    log = directory / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=ROOT,
            env=os.environ | own | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    os.sched_setaffinity(process.pid, cores)
    try:
        _wait_for_answer(process, f"http://127.0.0.1:{port}{page}", log)
        yield Running(process.pid, port, log)
    finally:
        process.kill()
        process.wait()


def _wait_for_answer(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.05)  # between two knocks
    raise Spoiled(f"{url} did not answer: {log.read_text()[-2000:]}")
