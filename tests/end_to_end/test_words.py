"""Captions and answers by the real command, in one process and on Ray: the same texts, each asked once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from blocks import write_pictures
from texts_written import write_texts
from tiny_generators import tiny_generator

ROWS = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_generator("llava", tmp_path_factory.mktemp("llava")).folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pictures(tmp_path_factory.mktemp("in") / "pictures", ROWS)


def texts(output: Path) -> list[tuple[Any, ...]]:
    """All texts in order. Probabilities differ in their last digits from batch to batch."""
    rows = [row for file in sorted(output.glob("texts/*.parquet")) for row in pq.read_table(file).to_pylist()]
    return [(row["row"], row["candidate"], row["text"], row["tokens"], row["finish"]) for row in rows]


def test_on_ray_the_texts_are_those_of_one_process(
    pictures: str, model: Path, clipmill: Callable, tmp_path: Path
) -> None:
    options = ["caption", "--input", pictures, "--model", model, "--max-tokens", 6, "--temperature", 0.7, "--seed", 3]
    here = clipmill(*options, "--output", tmp_path / "here", "--json")
    assert here.code == 0, here.err
    assert "in this process" in here.err
    ray = clipmill(*options, "--output", tmp_path / "ray", "--address", "local", "--cpus", 2, "--json")
    assert ray.code == 0, ray.err
    assert texts(tmp_path / "ray") == texts(tmp_path / "here")
    assert len(texts(tmp_path / "ray")) == ROWS
    assert ray.document["hardware"]["nodes"] == 1
    verified = clipmill("verify", tmp_path / "ray")
    assert verified.code == 0, verified.out + verified.err
    assert "120 texts" in verified.out
    again = clipmill(*options, "--output", tmp_path / "ray")
    assert again.code == 0
    assert "already complete: 120 texts about 120 pictures" in again.out


def test_a_killed_run_asks_only_what_is_left(pictures: str, model: Path, clipmill: Callable, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = [str(one) for one in ("--input", pictures, "--model", model, "--output", output, "--max-tokens", 30)]
    command = [sys.executable, "-m", "clipmill_jobs", "caption", *options]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    staging = tmp_path / ".out.staging"
    until = time.monotonic() + 240
    while len(list(staging.glob("*/units/*/*.arrow"))) < 5:
        assert running.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = len(list(staging.glob("*/units/*/*.arrow")))
    done = clipmill("caption", *options, "--json")
    assert done.code == 0, done.err
    run = done.document["runs"][-1]
    assert run["rows_reused"] == 8 * kept
    assert run["rows_encoded"] == ROWS - 8 * kept
    whole = clipmill("caption", *options[:-4], "--output", tmp_path / "whole", "--max-tokens", 30)
    assert whole.code == 0, whole.err
    assert texts(output) == texts(tmp_path / "whole")


def test_a_question_with_choices_is_answered_for_every_picture(
    pictures: str, model: Path, clipmill: Callable, tmp_path: Path
) -> None:
    asked = ["--question", "Is it blue?", "--choices", "yes,no"]
    done = clipmill("ask", "--input", pictures, "--model", model, "--output", tmp_path / "out", "--limit", 16, *asked)
    assert done.code == 0, done.err
    assert {text for _, _, text, _, _ in texts(tmp_path / "out")} <= {"yes", "no"}
    assert {finish for *_, finish in texts(tmp_path / "out")} == {"choice"}


def test_captions_are_filtered_alike_on_ray_and_here(
    clipmill: Callable, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    captions = [[f"a picture of {row} things"] for row in range(ROWS)]
    pictures = write_pictures(tmp_path_factory.mktemp("captioned") / "in", ROWS, caption=captions)
    texts = write_texts(tmp_path / "texts", pictures, {row: [f"block {row}", "a wall"] for row in range(ROWS)})
    options = ["recaption", "--input", pictures, "--texts", texts, "--threshold", 0.0]
    here = clipmill(*options, "--output", tmp_path / "here", "--json")
    assert here.code == 0, here.err
    assert "in this process" in here.err
    ray = clipmill(*options, "--output", tmp_path / "ray", "--address", "local", "--cpus", 2, "--json")
    assert ray.code == 0, ray.err
    for part, column in (("captioned", "caption"), ("dropped", "text")):
        found = [
            [
                row[column]
                for file in sorted(output.glob(f"{part}/*.parquet"))
                for row in pq.read_table(file).to_pylist()
            ]
            for output in (tmp_path / "ray", tmp_path / "here")
        ]
        assert found[0] == found[1]
        assert found[0]
    verified = clipmill("verify", tmp_path / "ray")
    assert verified.code == 0, verified.out + verified.err
    told = clipmill("status", tmp_path / "ray")
    assert f"of {ROWS} pictures kept" in told.out
    again = clipmill(*options, "--output", tmp_path / "ray")
    assert again.code == 0
    assert "is already complete" in again.out
