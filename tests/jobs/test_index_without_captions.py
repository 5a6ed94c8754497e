"""Every sentence on the recall of an index names what it was asked, and a missing kind of query is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from captioned import pairs, unit, write_captioned
from clipmill_jobs.__main__ import main

OWN = "its own images, each left out of its own results"


def clipmill(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(("captions", "asked"), [(0, OWN), (120, "captions")])
def test_the_kind_of_query_is_named_wherever_recall_is(tmp_path: Path, captions: int, asked: str) -> None:
    images, texts, rows = pairs(400, 1, noise=3.0)
    write_captioned(tmp_path / "e", images, texts[:captions], rows[:captions])
    options = ("--factory", "IVF8,Flat", "--target-recall", 0.9)
    built = clipmill("index", "--embeddings", tmp_path / "e", "--output", tmp_path / "i", *options)
    assert f"on {asked}" in built.stdout
    warned = "none of the queries that it will be asked" in built.stderr
    assert warned == (captions == 0)
    assert json.loads((tmp_path / "i/manifest.json").read_text())["target_met"] == (True if captions else None)
    assert f"on {asked}" in clipmill("status", tmp_path / "i").stdout
    places = ("--embeddings", tmp_path / "e", "--index", tmp_path / "i", "--output", tmp_path / "r")
    told = clipmill("evaluate", *places, "--bootstrap-samples", 20)
    assert f"asked with {asked}" in told.stdout
    report = json.loads((tmp_path / "r/report.json").read_text())
    (sentence,) = (sentence for sentence in report["summary"] if "the index returns" in sentence)
    assert sentence.startswith(f"Asked with {asked}, the index returns")
    assert ("What captions would find is not known" in sentence) == (captions == 0)
    recalls = [figure for figure in report["fidelity"]["figures"] if "recall" in figure["key"]]
    assert [f"asked with {asked}" in figure["definition"] for figure in recalls] == [True, True]
    kind = "captions" if captions else "gallery vectors"
    page = (tmp_path / "r/report.html").read_text()
    assert f"index, 10-recall@10 on {kind}" in page
    assert ("these may find much less" in page) == (captions == 0)
    assert f"asked with {asked}" in (tmp_path / "r/report.md").read_text()
    assert "whole" in clipmill("verify", tmp_path / "r").stdout


def test_a_group_that_is_not_found_is_told_beside_the_mean(tmp_path: Path) -> None:
    # The vectors of one label in twenty lie in directions that the projection drops.
    random = np.random.default_rng(0)
    images = np.zeros((2000, 16), np.float16)
    rare = np.arange(2000) % 20 == 0
    common = random.standard_normal((2000, 8))
    images[~rare, :8] = unit(common)[~rare]
    images[rare, 8:] = unit(random.standard_normal((100, 8)))
    labels = ["rare" if one else f"common {number % 3}" for number, one in enumerate(rare)]
    spread = unit(images.astype(np.float64) + random.standard_normal(images.shape) * np.where(images != 0, 0.05, 0))
    write_captioned(tmp_path / "e", images, spread, np.arange(2000), labels=labels)
    options = ("--factory", "PCAR8,IVF4,SQ8", "--target-recall", 0.5, "--tuning-queries", 300)
    CliRunner().invoke(
        main, ["index", "--embeddings", str(tmp_path / "e"), "--output", str(tmp_path / "i"), *map(str, options)]
    )
    places = ("--embeddings", tmp_path / "e", "--index", tmp_path / "i", "--output", tmp_path / "r")
    clipmill("evaluate", *places, "--slice-by", "label", "--no-probe", "--bootstrap-samples", 10)
    report = json.loads((tmp_path / "r/report.json").read_text())
    part = report["fidelity"]
    whole = next(figure for figure in part["figures"] if figure["key"] == "index.10_recall@10")
    (column,) = part["slices"]["columns"]
    found = {one["text"]: one["figures"][0] for one in column["slices"]}
    assert set(found) == set(labels)
    assert found["rare"]["value"] < 0.5 < whole["value"]
    assert found["rare"]["worse"]
    assert sum(one["n"] for one in found.values()) == whole["n"]
    mean = sum(one["n"] * one["value"] for one in found.values()) / whole["n"]
    assert mean == pytest.approx(whole["value"])
    (sentence,) = (sentence for sentence in report["summary"] if "the index returns" in sentence)
    assert "the least of 4 (label is rare)" in sentence
    assert "a mean over all of them hides" in (tmp_path / "r/report.html").read_text()
