"""Gives each pytest-xdist worker a VAR_DIR of its own. A plugin, because it has to come before Django's settings."""

import os
from pathlib import Path

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    folder = Path(__file__).parent.parent / "var" / f"tests-{worker}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["VAR_DIR"] = str(folder)
