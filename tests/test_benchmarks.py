"""The benchmark runs from end to end; what it measures is nothing that a test could judge."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.quiet


def test_a_quick_run_prints_a_table_with_the_product_beside_its_peers() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--quick", "growth"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    rows = [line for line in run.stdout.splitlines() if line.startswith("| ")]
    assert rows[0] == "| measure | product | peer | ratio | aim | met |"
    assert [cell.strip() for cell in rows[2].split("|")][1].startswith("bytes of a text of 100 tokens against 50")
    assert "not measured" not in run.stdout
