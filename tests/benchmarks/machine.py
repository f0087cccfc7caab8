"""The machine: which core does what, what a process has used, and a description for the reader of the table."""

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = set(_CORES[:1])
OTHER_CORES = set(_CORES[1:]) or SERVER_CORES


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all of its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def thread_count(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def database_connections(pid: int, database: Path) -> int:
    """Each connection to SQLite opens the write-ahead log; the file itself stays open for connections to come."""
    log = f"{database.resolve()}-wal"
    return sum(os.path.realpath(each) == log for each in Path(f"/proc/{pid}/fd").iterdir())


@dataclass(slots=True)
class Stopwatch:
    """The CPU time of a process beside the clock on the wall."""

    pid: int
    started: float = 0.0
    cpu: float = 0.0

    def __post_init__(self) -> None:
        self.started, self.cpu = time.monotonic(), cpu_seconds(self.pid)

    @property
    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid) - self.cpu

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def share(self) -> float:
        return self.cpu_seconds / self.seconds


def description() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("django", "uvicorn", "uvloop", "openai", "aiohttp", "fastapi")
    )
    return (
        f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}, {packages}. "
        f"The server ran on core {_listed(SERVER_CORES)}, provider and readers on core {_listed(OTHER_CORES)}.\n"
    )


def _listed(cores: set[int]) -> str:
    return ", ".join(map(str, sorted(cores)))
