"""Commands are ended at some of the changes that they make, and run two at once; `make crashes` tries every change."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "crash_points.py"


@pytest.mark.parametrize(
    ("only", "every", "options"),
    [
        ("sample", 7, []),
        ("import vectors", 11, []),
        ("import csv", 9, ["--pairs"]),
        ("filter", 13, ["--pairs"]),
        ("index", 17, []),
    ],
)
def test_the_same_command_completes_and_nothing_is_lost(only: str, every: int, options: list[str]) -> None:
    command = [sys.executable, str(SCRIPT), "--only", only, "--every", str(every), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("0 not whole afterwards") == 2, done.stdout
