"""A run that is killed or runs out of disk leaves no half-written dataset, and the same command finishes it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROWS = 3000
SMALLEST_UNIT = 60


@pytest.fixture(scope="module")
def scenes(clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    assert clipmill("sample", "--output", folder, "--rows", ROWS, "--seed", 5).code == 0
    return folder


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "clipmill_jobs", *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_units(staging: Path, count: int) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if len(list(staging.glob("*/units/*/*.arrow"))) >= count:
            return
        time.sleep(0.05)
    pytest.fail("the run committed nothing")


def rows_of(output: Path) -> list[int]:
    return pq.read_table(output / "images", columns=["row"]).column("row").to_pylist()


def stop(run: subprocess.Popen, how: str) -> None:
    """Ends a run in one of three ways, and looks at how it took it."""
    if how == "killed":
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)
        return
    run.send_signal(signal.SIGINT if how == "interrupted" else signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == (130 if how == "interrupted" else 143)
    assert f"{how}; run the same command again" in err
    assert "Traceback" not in err


def test_a_run_is_killed_interrupted_and_terminated_and_continued_by_the_same_command(
    scenes: Path, clipmill: Callable, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = ("embed", "--input", scenes, "--output", output)
    done_before = 0
    for how in ("killed", "interrupted", "terminated"):
        run = start(*command)
        wait_for_units(tmp_path / ".out.staging", done_before + 2)
        stop(run, how)
        assert not output.exists()
        done_before = len(list((tmp_path / ".out.staging").glob("*/units/*/*.arrow")))
    done = clipmill(*command, "--json")
    assert done.code == 0, done.err
    starts = done.document["runs"]
    assert [one["finished"] is None for one in starts] == [True, True, True, False]
    reused = [one["rows_reused"] for one in starts]
    assert reused[0] == 0
    assert all(later >= before + 2 * SMALLEST_UNIT for before, later in pairwise(reused))
    assert [before + one["rows_encoded"] for before, one in zip(reused, starts, strict=True)] == [*reused[1:], ROWS]
    assert rows_of(output) == list(range(ROWS))
    assert clipmill("verify", output).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_command_does_not_mix_with_unfinished_work(scenes: Path, clipmill: Callable, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run = start("embed", "--input", scenes, "--output", output)
    wait_for_units(tmp_path / ".out.staging", 1)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    other = clipmill("embed", "--input", scenes, "--output", output, "--limit", 100)
    assert other.code == 2
    assert "configuration" in other.err
    done = clipmill("embed", "--input", scenes, "--output", output, "--limit", 100, "--overwrite", "--json")
    assert done.code == 0, done.err
    assert rows_of(output) == list(range(100))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1M", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=False)


def test_a_full_disk_is_one_sentence_and_publishes_nothing(scenes: Path, clipmill: Callable, small_disk: Path) -> None:
    done = clipmill("embed", "--input", scenes, "--output", small_disk / "out")
    assert done.code == 1
    last = done.err.strip().splitlines()[-1]
    assert "could not be written" in last
    assert str(small_disk) in last
    assert not (small_disk / "out").exists()
