"""An index whose making is killed, interrupted or terminated is finished by the same command, and nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clipmill.datasets.manifests import Embeddings
from clipmill.index.search.open import open_index

ROWS, SHARDS, DIMENSION = 60_000, 30, 64
OPTIONS = {"factory": "IVF128,PQ32x4fsr", "shards": SHARDS, "tuning_queries": 300}


@pytest.fixture(scope="module")
def dataset(clustered_embeddings: Callable[..., Embeddings]) -> Embeddings:
    return clustered_embeddings(ROWS, 900, DIMENSION)


def command(dataset: Embeddings, output: Path) -> list[str]:
    """With one core, shards are filled one after the other, and training gives the same each time."""
    options = [text for name, value in OPTIONS.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return ["index", "--embeddings", dataset.location.uri, "--output", str(output), "--cpus", "1", *options]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "clipmill_jobs", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(there: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not there():
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.005)


def kill(run: subprocess.Popen[str]) -> None:
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)


def test_it_is_stopped_three_times_and_finished_as_if_it_never_was(
    dataset: Embeddings, clipmill: Callable, tmp_path: Path
) -> None:
    output, staging = tmp_path / "index", tmp_path / ".index.staging"
    arguments = command(dataset, output)

    def filled() -> int:
        return len(list(staging.glob("*/shards/*.json")))

    def training() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in staging.glob("*/*train*") if path.suffix != ".tmp"} | {
            path.name: path.stat().st_mtime_ns for path in staging.glob("*/dataset/trained.faiss")
        }

    run = start(arguments)
    wait_until(lambda: any(staging.glob("*/trained.json")), run)
    kill(run)
    trained, done = training(), [filled()]
    assert set(trained) == {"trained.json", "trained.faiss"}
    for number, code, word in ((signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")):
        run = start(arguments)
        wait_until(lambda: filled() >= done[-1] + 2, run)
        run.send_signal(number)
        _, err = run.communicate(timeout=60)
        assert run.returncode == code, err
        assert f"{word}; run the same command again to continue" in err
        assert "Traceback" not in err
        assert not output.exists()
        assert training() == trained
        done.append(filled())
    assert done[-1] < SHARDS
    ended = clipmill(*arguments, "--json")
    assert ended.code == 0, ended.err
    runs = ended.document["runs"]
    assert [run["finished"] is None for run in runs] == [True, True, True, False]
    reused = [run["rows_reused"] // (ROWS // SHARDS) for run in runs]
    assert reused[0] == 0
    assert all(counted >= seen for counted, seen in zip(reused[1:], done, strict=True))  # workers outlive their driver
    assert sum(run["rows_encoded"] for run in runs) == ROWS
    assert runs[-1]["rows_encoded"] == ROWS - runs[-1]["rows_reused"] < ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["index"]

    undisturbed = clipmill(*command(dataset, tmp_path / "reference"))  # likewise: processors differ in their last bits
    assert undisturbed.code == 0, undisturbed.err
    found, reference = open_index(str(output)), open_index(str(tmp_path / "reference"))
    assert found.manifest.trained_sha256 == reference.manifest.trained_sha256
    assert found.manifest.shards_sha256 == reference.manifest.shards_sha256
    queries = reference.vectors_at(np.arange(0, ROWS, 600))
    for one, other in zip(
        found.search(queries, 10, nprobe=8, rerank=40), reference.search(queries, 10, nprobe=8, rerank=40), strict=True
    ):
        assert np.array_equal(one, other)
    assert clipmill("verify", output).code == 0


def test_two_at_once_and_another_index_are_refused(dataset: Embeddings, clipmill: Callable, tmp_path: Path) -> None:
    output, staging = tmp_path / "index", tmp_path / ".index.staging"
    run = start(command(dataset, output))
    wait_until(lambda: any(staging.glob("*/runs.json")), run)
    os.kill(run.pid, signal.SIGSTOP)
    refused = clipmill(*command(dataset, output))
    kill(run)
    assert refused.code == 2
    assert "another run (process" in refused.err
    other = clipmill(*command(dataset, output), "--target-recall", 0.8)
    assert other.code == 2
    assert "configuration (target_recall: 0.95, now 0.8)" in other.err
    assert json.loads(next(staging.glob("*/plan.json")).read_text())["configuration"]["target_recall"] == 0.95
