"""Every sentence on the recall of an index names what it was asked, and a missing kind of query is told."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from captioned import pairs, write_captioned
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
