"""Runs the measures named on the command line, or all, and prints their table."""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import django
import uvloop

from tests.benchmarks import machine
from tests.benchmarks.servers import Spoiled
from tests.benchmarks.table import Row, markdown

# Each is a module with `measure(directory, quick=...)`, which yields its rows.
MEASURES = ("cpu", "first_token", "hedging", "open_streams", "resuming", "growth", "pages")


def _set_up(directory: Path) -> None:
    """Let Django, here and in the servers started from here, work on a database that goes when this ends."""
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "LLM_"))]:
        del os.environ[name]
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "simulator.settings",
        "VAR_DIR": str(directory),
        "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}",
        "REDIS_URL": "",
        "WEB_CONCURRENCY": "1",
        "DEBUG": "off",
    }
    django.setup()
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    from tests.benchmarks.learners import prepare_database  # needs the settings

    prepare_database()


async def _rows(name: str, directory: Path, *, quick: bool) -> list[Row]:
    measure = import_module(f"tests.benchmarks.{name}").measure  # as late: most need the settings
    rows = []
    try:
        found: AsyncIterator[Row] = measure(directory, quick=quick)
        async for row in found:
            sys.stderr.write(markdown([row]).splitlines()[-1] + "\n")
            rows.append(row)
    except Spoiled as spoiled:
        sys.stderr.write(f"{name}: {spoiled}\n")
        rows.append(Row.spoiled(name, str(spoiled)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="measure", help=f"of {', '.join(MEASURES)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="see whether it runs, not how fast it is")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    os.sched_setaffinity(0, machine.OTHER_CORES)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        _set_up(Path(directory))
        rows = [
            row
            for name in options.names or MEASURES
            for row in uvloop.run(_rows(name, Path(directory), quick=options.quick))
        ]
    sys.stdout.write(f"{machine.description()}\n{markdown(rows)}")
    sys.exit(any(row.product.startswith("not measured") for row in rows))


if __name__ == "__main__":
    main()
