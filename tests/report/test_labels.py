"""What a report says of a number is what was measured: where it was, of what, and with one interval."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from captioned import identity, pairs, write_captioned
from clipmill.core.settings import EvaluateSettings
from clipmill.evaluation.fidelity import measure_cold
from clipmill.index.search.rerank import StoredVectors
from clipmill.index.stored import Coding
from clipmill_jobs.__main__ import main
from reported import evaluate, load_encoder

IMAGES, CAPTIONS, ROWS = pairs(400, 2, noise=2.0)


def clipmill(*arguments: object) -> str:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def figures_in(document: Any) -> list[dict[str, Any]]:
    """Every figure of a report, wherever it stands."""
    if isinstance(document, list):
        return [figure for one in document for figure in figures_in(one)]
    if not isinstance(document, dict):
        return []
    own = [document] if {"key", "value", "low", "high"} <= set(document) else []
    return own + [figure for value in document.values() for figure in figures_in(value)]


def test_vectors_made_elsewhere_were_not_embedded_at_any_speed(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", IMAGES.astype(np.float32))
    np.save(tmp_path / "t.npy", CAPTIONS[::2].astype(np.float32))
    places = ("--images", tmp_path / "i.npy", "--texts", tmp_path / "t.npy")
    clipmill("import", "vectors", *places, "--output", tmp_path / "e")
    assert "images/s" not in clipmill("status", tmp_path / "e")
    clipmill("evaluate", "--embeddings", tmp_path / "e", "--output", tmp_path / "r", "--bootstrap-samples", 10)
    report = json.loads((tmp_path / "r/report.json").read_text())
    assert {figure["key"] for figure in report["cost"]} == {"cost.bytes_per_image", "cost.bytes_per_caption"}
    assert "were embedded elsewhere" in report["summary"][0]
    for name in ("report.md", "report.html"):
        assert "Images/s" not in (tmp_path / "r" / name).read_text()
    throughput = json.loads((tmp_path / "e/manifest.json").read_text())["throughput"]
    assert throughput["images_per_second"] == throughput["captions_per_second"] == 0


def test_one_figure_has_one_interval(tmp_path: Path) -> None:
    labels = ["abc"[number % 3] for number in range(400)]
    place = write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS, labels=labels, model=identity(16))
    values = {"embeddings": place, "output": str(tmp_path / "r"), "bootstrap_samples": 50, "slice_by": ("label",)}
    report = evaluate(EvaluateSettings(**values), load_encoder, tmp_path).manifest
    seen: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {}
    for figure in figures_in(report.model_dump(mode="json")):
        seen.setdefault((figure["key"], figure["value"], figure["n"]), set()).add((figure["low"], figure["high"]))
    assert sum(len(ends) for ends in seen.values()) == len(seen)
    losses = [figure for figure in report.figures if "info_nce" in figure.key]
    assert len(losses) == 2
    assert all(loss.low is not None and loss.low < loss.value < (loss.high or 0) for loss in losses)


@pytest.mark.parametrize(("factory", "reranks"), [("IVF8,SQ8", True), ("Flat", False)])
def test_an_index_says_where_its_vectors_are_and_what_reading_them_takes(
    tmp_path: Path, factory: str, reranks: bool
) -> None:
    write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS)
    clipmill("index", "--embeddings", tmp_path / "e", "--output", tmp_path / "i", "--factory", factory)
    places = ("--embeddings", tmp_path / "e", "--index", tmp_path / "i", "--output", tmp_path / "r")
    clipmill("evaluate", *places, "--bootstrap-samples", 10)
    report = json.loads((tmp_path / "r/report.json").read_text())
    figures = {figure["key"]: figure for figure in report["fidelity"]["figures"]}
    assert ("index.latency_cold" in figures) == reranks
    assert ("32 bytes each, on disk" in figures["index.bytes_per_vector"]["definition"]) == reranks
    (sentence,) = (sentence for sentence in report["summary"] if "the index returns" in sentence)
    assert ("on disk for re-ranking" in sentence) == reranks
    latency = report["fidelity"]["latency"]
    centres = (np.array(latency["edges"][1:]) + latency["edges"][:-1]) / 2
    width = latency["edges"][1] - latency["edges"][0]
    assert sum(latency["counts"]) == latency["n"]
    assert latency["mean"] == pytest.approx(np.average(centres, weights=latency["counts"]), abs=width / 2)


def test_cold_queries_read_what_was_evicted(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", IMAGES)
    stored = StoredVectors([np.load(tmp_path / "v.npy", mmap_mode="r")], np.array([0, 400]), Coding(IMAGES.shape[1]))
    np.testing.assert_array_equal(stored.gather(np.arange(400)), IMAGES)
    assert stored.evict()
    np.testing.assert_array_equal(stored.gather(np.arange(400)), IMAGES)
    assert not StoredVectors([IMAGES], np.array([0, 400]), Coding(IMAGES.shape[1])).evict()
    asked: list[int] = []

    def search(query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(k)
        return np.empty((1, k), np.float32), np.empty((1, k), np.int64)

    assert len(measure_cold(search, IMAGES[:30].astype(np.float32), 7, lambda: True)) == len(asked) == 20
    assert not len(measure_cold(search, IMAGES[:30].astype(np.float32), 7, lambda: False))
