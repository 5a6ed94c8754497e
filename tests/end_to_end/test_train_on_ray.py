"""Training on several workers of a Ray cluster ends with the weights that one would have, whatever is killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.cluster

MODEL = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 36, "vocab_size": 4514, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
    "tokenizer_merges": 4000,
}
"""Two small transformers without batch normalisation, which would see other batches on other workers."""


@pytest.fixture(scope="module")
def given(clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The options of a run of 30 steps over 400 scenes."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "model").mkdir()
    (folder / "model" / "open_clip_config.json").write_text(json.dumps(MODEL))
    done = clipmill("sample", "--output", folder / "scenes", "--rows", 400, "--split", "train", "--image-size", 32)
    assert done.code == 0
    options = ["--input", folder / "scenes", "--model", folder / "model", "--steps", 30, "--batch-size", 24]
    return ["train", *options, "--learning-rate", 2e-3, "--warmup-steps", 5, "--checkpoint-every", 5]


@pytest.fixture(scope="module")
def alone(given: list[object], clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that one worker makes."""
    output = tmp_path_factory.mktemp("alone") / "model"
    assert clipmill(*given, "--output", output).code == 0
    return output


def start(*arguments: object) -> subprocess.Popen:
    """A command in a process group of its own, with the processes that it starts."""
    line = [sys.executable, "-m", "clipmill_jobs", *(str(argument) for argument in arguments)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def worker_of(job: subprocess.Popen) -> int:
    """A process that trains, among those below a job."""
    found = {int(entry.name): entry for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    for pid, entry in found.items():
        try:
            if b"RayTrainWorker" in (entry / "cmdline").read_bytes() and os.getsid(pid) == os.getsid(job.pid):
                return pid
        except (OSError, ProcessLookupError):
            continue
    raise AssertionError("no process trains")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


def assert_near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=atol)


@pytest.fixture(scope="module")
def shared(given: list[object], clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that two workers make."""
    output = tmp_path_factory.mktemp("shared") / "model"
    done = clipmill(*given, "--output", output, "--workers", 2)
    assert done.code == 0, done.err
    assert "starting 2 workers with 1 cores each" in done.err
    assert "step 30/30  loss" in done.err
    return output


def test_two_workers_end_with_the_weights_of_one(alone: Path, shared: Path) -> None:
    """Sums in another order differ in the last digits, and Adam divides small gradients by their own size."""
    assert_near(weights(shared), weights(alone), 2e-3)
    one, two = (json.loads((folder / "training.json").read_text()) for folder in (alone, shared))
    assert (one["workers"], two["workers"]) == (1, 2)
    assert one["configuration"] == two["configuration"]
    assert two["losses"][-1]["loss"] == pytest.approx(one["losses"][-1]["loss"], abs=1e-3)


def test_only_the_model_is_left(shared: Path) -> None:
    assert {path.name for path in shared.iterdir()} == {
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "training.json",
    }
    assert [path.name for path in shared.parent.iterdir()] == ["model"]


def test_a_lost_worker_costs_the_steps_since_the_last_checkpoint(
    given: list[object],
    shared: Path,
    tmp_path: Path,
) -> None:
    """A worker is killed in the midst of it: the others are started again, and the weights are those of a quiet run."""
    job = start(*given, "--output", tmp_path / "model", "--workers", 2)
    checkpoint, killed = None, False
    while job.poll() is None:
        checkpoint = checkpoint or next(tmp_path.glob(".model.staging/*/checkpoint.pt"), None)
        if checkpoint and not killed:
            os.kill(worker_of(job), signal.SIGKILL)
            killed = True
        time.sleep(0.1)
    assert job.returncode == 0, job.communicate()[1]
    assert killed
    assert_near(weights(tmp_path / "model"), weights(shared), 0)


def test_a_mistake_is_told_before_any_worker_is_started(
    given: list[object], tmp_path: Path, clipmill: Callable
) -> None:
    options = [*given, "--output", tmp_path / "model", "--workers", 2, "--caption-column", "nothing"]
    done = clipmill(*options)
    assert done.code == 2, done.err
    assert "--caption-column nothing" in done.err
    assert "Ray" not in done.err
