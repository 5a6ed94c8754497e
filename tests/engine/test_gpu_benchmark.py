"""What `make gpu` runs on a GPU runs here with tiny sizes on the CPU, so that no typo costs time on a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import run_part, write_page
from benchmarks.gpu_parts import PARTS, Bench

ROOT = Path(__file__).parents[2]


def test_every_part_finds_figures(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--smoke", "--limit", "500"]
    run = subprocess.run([*command, "--output", str(output)], cwd=ROOT, capture_output=True, text=True, timeout=900)
    found = json.loads(output.read_text())
    assert {name: part["failed"] for name, part in found.items() if "failed" in part} == {}
    assert run.returncode == 0, run.stderr[-2000:]
    assert list(found) == list(PARTS)
    assert found["pipeline-B-32"]["builtin"]["images/s of the command"] > 0
    assert found["parity"]["least cosine of images"] > 0.99
    assert found["memory"]["survived"]
    assert "## search" in run.stdout


def test_new_tables_leave_what_the_page_tells(tmp_path: Path) -> None:
    place = tmp_path / "gpu.md"
    for figure in (1.5, 2.5):
        write_page(place, {"search": {"figure": figure}})
        if figure == 1.5:
            place.write_text(place.read_text() + "\n## What a GPU does where it is asked for\n\nThis.\n")
    assert "| figure | 2.5 |" in place.read_text()
    assert "1.5" not in place.read_text()
    assert place.read_text().endswith("\n\n## What a GPU does where it is asked for\n\nThis.\n")
    assert "## What a GPU does where it is asked for" in (ROOT / "docs/gpu.md").read_text()


def fail(bench: Bench) -> dict[str, object]:
    raise ValueError("no such thing")


def hang(bench: Bench) -> dict[str, object]:
    import time

    time.sleep(600)
    return {}


def end(bench: Bench) -> dict[str, object]:
    import os

    os._exit(7)


@pytest.mark.parametrize(("part", "limit", "said"), [(fail, 60, "no such thing"), (hang, 1, "longer"), (end, 60, "7")])
def test_a_part_that_fails_does_not_cost_the_others(
    part: object, limit: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "one", part)  # type: ignore[arg-type]
    assert said in run_part("one", Bench(tmp_path, "cpu", True, limit))["failed"]
