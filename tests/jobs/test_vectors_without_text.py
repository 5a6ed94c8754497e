"""Vectors whose texts nobody knows go through every command, and no report takes them for copies of each other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from captioned import pairs
from clipmill.core.schemas import captions_schema
from clipmill.source.importers import vectors
from clipmill.source.importers.vector_source import VectorSource
from clipmill_jobs.__main__ import main

IMAGES, TEXTS, _ = pairs(60, 1, noise=3.0)


def clipmill(*arguments: object) -> str:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def document(*arguments: object) -> dict[str, Any]:
    return json.loads(clipmill(*arguments, "--json"))


def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports as version 0.1.0 did, which wrote texts that it did not know as empty strings."""
    monkeypatch.setattr(VectorSource, "captions", lambda self, texts: [""] * len(texts))
    monkeypatch.setattr(vectors, "captions_schema", lambda dimension, unknown: captions_schema(dimension))


@pytest.fixture(params=["now", "by 0.1.0"])
def imported(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "images.npy", IMAGES.astype(np.float32))
    np.save(tmp_path / "texts.npy", TEXTS.astype(np.float32))
    with monkeypatch.context() as patched:
        if request.param != "now":
            as_before(patched)
        files = ("--images", tmp_path / "images.npy", "--texts", tmp_path / "texts.npy")
        clipmill("import", "vectors", *files, "--output", tmp_path / "e")
    return tmp_path / "e"


def test_no_command_takes_unknown_texts_for_equal_ones(imported: Path, tmp_path: Path) -> None:
    assert "whole" in clipmill("verify", imported)
    clipmill("evaluate", "--embeddings", imported, "--output", tmp_path / "r", "--bootstrap-samples", 20)
    report = json.loads((tmp_path / "r/report.json").read_text())
    for part in report["retrieval"]:
        assert list(part["ceiling"].values()) == [1, 1, 1]
        assert part["repeated_captions"] == 0
    assert not any("no model could expect" in sentence for sentence in report["summary"])
    assert any("the text of 60 captions is not known" in note for note in report["notes"])
    assert {pair["caption"] for pair in report["alignment"]["worst"]} == {None}
    assert {example["caption"] for example in report["examples"]} == {None}
    assert "text not known" in (tmp_path / "r/report.html").read_text()
    assert "whole" in clipmill("verify", tmp_path / "r")
    text = pq.read_table(tmp_path / "r/report.queries.parquet").column("text")
    assert text.null_count == len(text)


def test_captions_without_text_are_indexed_searched_filtered_and_deduplicated(imported: Path, tmp_path: Path) -> None:
    clipmill("index", "--embeddings", imported, "--gallery", "captions", "--output", tmp_path / "i")
    assert "whole" in clipmill("verify", tmp_path / "i")
    like = ("search", "--index", tmp_path / "i", "--id", "images.npy:3")
    assert [found["caption"] for found in document(*like)["results"]] == [None] * 10
    assert document(*like, "--where", "caption is null")["rows_selected"] == 60
    assert "None" not in clipmill(*like)
    clipmill(*like, "--html", tmp_path / "found.html")
    assert "None" not in (tmp_path / "found.html").read_text()
    clipmill("filter", "--embeddings", imported, "--min-clip-score", -1, "--output", tmp_path / "f")
    (kept,) = (tmp_path / "f/kept").glob("*.parquet")
    assert pq.read_table(kept).column("captions").to_pylist() == [[None]] * 60
    assert "whole" in clipmill("verify", tmp_path / "f")
    clipmill("dedup", "--embeddings", imported, "--gallery", "captions", "--output", tmp_path / "d")
    assert "whole" in clipmill("verify", tmp_path / "d")
