import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file, readable by its owner alone, that appears at `path` when it is complete, and overwrites nothing.

    Raises FileExistsError where there is one already, or by the time this one is complete.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(name, path)  # unlike a rename, it overwrites nothing
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            Path(name).rename(path)
    finally:
        Path(name).unlink(missing_ok=True)
