"""Commands are ended at some of the changes that they make, and run two at once; `make crashes` tries every change."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crash_points import spread

SCRIPT = Path(__file__).parents[1] / "crash_points.py"


@pytest.mark.parametrize(
    ("count", "every", "most", "tried"),
    [(10, 1, None, 10), (10, 3, None, 4), (10, 1, 3, 3), (10, 1, 1, 1), (1, 1, 3, 1), (2, 1, 3, 2), (93, 2, 5, 5)],
)
def test_few_instants_are_spread_from_the_first_to_the_last(
    count: int, every: int, most: int | None, tried: int
) -> None:
    chosen = spread(count, every, most)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == tried
    assert chosen[0] == 0
    assert chosen[-1] < count
    if most is not None and tried > 1:
        assert chosen[-1] == count - 1


@pytest.mark.parametrize(
    ("only", "every", "options"),
    [
        ("sample", 7, []),
        ("import vectors", 11, []),
        ("import csv", 9, ["--pairs"]),
        ("filter", 13, ["--pairs"]),
        ("index", 17, []),
        ("import vectors", 7, ["--s3"]),
        ("filter", 6, ["--s3"]),
    ],
)
def test_the_same_command_completes_and_nothing_is_lost(
    only: str, every: int, options: list[str], tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    given = ["--only", only, "--every", str(every), "--results", str(results), *options]
    done = subprocess.run([sys.executable, str(SCRIPT), *given], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("0 not whole afterwards") == 2, done.stdout
    (table,) = json.loads(results.read_text()).values()
    assert all(one["tried"] == -(-one["points"] // every) for one in table.values())
    page = tmp_path / "page.md"
    subprocess.run([sys.executable, str(SCRIPT), "--results", str(results), "--page", str(page)], check=True)
    assert page.read_text().count(f"| {only}") == 2
