"""The lock beside an SQLite file that tells serving processes and `restore` of each other."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InUse(Exception):
    """Another process holds the lock."""


@contextmanager
def serving_lock(database: Path, *, shared: bool) -> Iterator[None]:
    """Hold the lock of an SQLite file; processes that share it exclude only those that do not.

    The kernel releases it when the process ends, in whatever way. Raises InUse.
    """
    with Path(f"{database}.serving").open("wb") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise InUse from taken
        yield
