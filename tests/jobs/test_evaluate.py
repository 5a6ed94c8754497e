"""`clipmill evaluate` measures model and index together, and says what it cannot."""

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
from click.testing import CliRunner, Result

from captioned import pairs, unit, write_captioned
from clipmill.core.gpus import FAKE_GPUS
from clipmill.core.settings import ModelSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.encoders.model import ClipModel, load_model
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.index.search.search import Index
from clipmill.stage.checkpoints import Computed, load
from clipmill.storage import resolve
from clipmill_jobs.evaluate import command

CLASSES = ["red circle", "blue star", "green_square"]


@pytest.fixture(scope="module")
def model() -> ClipModel:
    return load_model(ModelSettings(), device="cpu")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def dataset(folder: Path, model: ClipModel) -> str:
    """Images that lie where their class's name does, each with two captions."""
    words = model.encode_texts([f"a photo of a {name.replace('_', ' ')}" for name in CLASSES])
    labels = np.arange(60) % 3
    images = unit(words[labels] + np.random.default_rng(0).standard_normal((60, words.shape[1])) * 0.005)
    captions = unit(
        np.repeat(images, 2, axis=0) + np.random.default_rng(1).standard_normal((120, words.shape[1])) * 0.01
    )
    return write_captioned(
        folder,
        images,
        captions,
        np.repeat(np.arange(60), 2),
        labels=[CLASSES[label] for label in labels],
        model=model.identity,
    )


def test_model_and_index_are_measured_apart(model: ClipModel, indexed: Callable[..., Index], tmp_path: Path) -> None:
    place = dataset(tmp_path / "e", model)
    index = Path(indexed(Embeddings.open(place)).table.paths[0]).parent
    templates = tmp_path / "templates.txt"
    templates.write_text("a photo of a {}\n")
    arguments = ("--embeddings", place, "--index", index, "--output", tmp_path / "r", "--templates", templates)
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert [part["direction"] for part in report["retrieval"]] == ["t2i", "i2t"]
    assert report["zero_shot"]["figures"][0]["value"] == 1
    assert [part["name"] for part in report["zero_shot"]["classes"]] == sorted(CLASSES)
    figures = {figure["title"]: figure["value"] for figure in report["fidelity"]["figures"]}
    assert (figures["10-recall@10"], figures["1-recall@1"]) == (1, 1)
    assert figures["p50"] <= figures["p95"] <= figures["p99"]
    assert report["fidelity"]["queries"] == 60
    not_asked = {"Slices", "Robustness to worse pictures", "Robustness to writing", "Shorter vectors"}
    assert {absence["what"] for absence in report["absences"]} == not_asked
    again = run(*arguments)
    assert (again.exit_code, "already complete" in again.stdout) == (0, True)
    assert "10-recall@10 1.0000" in again.stdout
    assert sorted(os.listdir(tmp_path / "r")) == [
        "report.csv",
        "report.html",
        "report.json",
        "report.md",
        "report.queries.parquet",
    ]


def test_exact_search_on_a_gpu_measures_the_same(
    model: ClipModel, indexed: Callable[..., Index], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = dataset(tmp_path / "e", model)
    index = Path(indexed(Embeddings.open(place)).table.paths[0]).parent
    arguments = ("--embeddings", place, "--index", index, "--templates", "plain", "--no-probe", "--json")
    monkeypatch.delenv(FAKE_GPUS, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused = run(*arguments, "--output", tmp_path / "gpu", "--products", "gpu")
    assert (refused.exit_code, "--products gpu: this machine has no GPU" in refused.stderr) == (2, True)
    monkeypatch.setenv(FAKE_GPUS, "1")
    figures = []
    for products in ("cpu", "gpu"):
        done = run(*arguments, "--output", tmp_path / products, "--products", products)
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)["fidelity"]["figures"]
        figures.append({figure["title"]: figure["value"] for figure in found if "recall" in figure["title"]})
    assert figures[0] == figures[1]
    assert len(figures[0]) == 2


def test_an_index_of_other_embeddings_is_refused(
    model: ClipModel, indexed: Callable[..., Index], tmp_path: Path
) -> None:
    index = Path(indexed(Embeddings.open(dataset(tmp_path / "e", model))).table.paths[0]).parent
    images, captions, rows = pairs(8, 1)
    other = write_captioned(tmp_path / "other", images, captions, rows)
    done = run("--embeddings", other, "--index", index, "--output", tmp_path / "r")
    assert (done.exit_code, "was built over" in done.stderr) == (2, True)
    assert not (tmp_path / "r").exists()


def test_class_names_are_not_encoded_by_another_model(model: ClipModel, tmp_path: Path) -> None:
    images, captions, rows = pairs(8, 1, dimension=model.identity.dimension)
    made_by = model.identity.model_copy(update={"weights_sha256": "0" * 64})
    place = write_captioned(tmp_path / "e", images, captions, rows, labels=["a"] * 8, model=made_by)
    done = run("--embeddings", place, "--output", tmp_path / "r")
    assert (done.exit_code, "did not make the embeddings" in done.stderr) == (2, True)
    assert "weights_sha256" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--embeddings", "nowhere"), "no manifest.json"),
        (("--embeddings", "e", "--label-column", "breed"), "--label-column breed"),
        (("--embeddings", "e", "--templates", "nope.txt"), "--templates nope.txt"),
        (("--embeddings", "e", "--index", "e"), "kind 'embeddings'"),
        (("--embeddings", "e", "--bootstrap-samples", "-1"), "--bootstrap-samples"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    images, captions, rows = pairs(4, 1)
    write_captioned(tmp_path / "e", images, captions, rows)
    done = run(*arguments, "--output", "r")
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert os.listdir(tmp_path) == ["e"]


def test_an_interrupted_evaluation_publishes_nothing_and_is_continued(tmp_path: Path) -> None:
    images, captions, rows = pairs(6000, 3, dimension=64)
    place = write_captioned(tmp_path / "e", images, captions, rows)
    # Enough resamples that the evaluation goes on for seconds after its first part is kept.
    arguments = ["--embeddings", place, "--output", str(tmp_path / "r"), "--bootstrap-samples", "20000"]
    interrupted = subprocess.Popen(
        [sys.executable, "-m", "clipmill_jobs", "evaluate", *arguments], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".r.staging/*/parts/ranks-*.npz")):
        assert interrupted.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    interrupted.send_signal(signal.SIGINT)
    err = interrupted.communicate(timeout=60)[1]
    assert interrupted.returncode == 130, err
    assert "interrupted; run the same command again to continue" in err
    assert "Traceback" not in err
    assert not (tmp_path / "r").exists()
    (kept,) = tmp_path.glob(".r.staging/*/parts/ranks-t2i.npz")
    assert load(resolve(kept), Computed[Ranks]) is not None
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(tmp_path)) == ["e", "r"]
