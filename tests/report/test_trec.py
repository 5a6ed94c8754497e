"""Others score every query's results again, from TREC files, and find the report's figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from captioned import pairs, write_captioned
from clipmill.report import ranked
from clipmill_jobs.__main__ import main

IMAGES, CAPTIONS, ROWS = pairs(60, 3, noise=3.0)
IMAGE_ROWS = [number if number < 25 else (1 << 32) + number for number in range(60)]


def clipmill(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def made(tmp_path: Path, depth: int, **dataset: Any) -> tuple[dict[str, Any], Path]:
    """The report of a dataset with some images and some captions that no query asks for."""
    values = {
        "images": IMAGES,
        "captions": CAPTIONS[:150],
        "caption_rows": [IMAGE_ROWS[row] if row else 77 for row in ROWS[:150]],
        "image_rows": IMAGE_ROWS,
        **dataset,
    }
    write_captioned(tmp_path / "e", **values)
    places = ("--embeddings", tmp_path / "e", "--output", tmp_path / "r")
    result = clipmill("evaluate", *places, "--bootstrap-samples", 10, "--trec", depth)
    assert result.exit_code == 0, result.output
    return json.loads((tmp_path / "r/report.json").read_text()), tmp_path / "r"


def lines(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines()]


def read(folder: Path, direction: str) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]:
    run: dict[str, dict[str, float]] = {}
    for query, _, item, _, score, _ in lines(folder / f"report.{direction}.run"):
        run.setdefault(query, {})[item] = float(score)
    truth: dict[str, dict[str, int]] = {}
    for query, _, item, relevance in lines(folder / f"report.{direction}.qrels"):
        truth.setdefault(query, {})[item] = int(relevance)
    return run, truth


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_trec_eval_finds_the_figures_of_the_report(tmp_path: Path, direction: str) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
    report, folder = made(tmp_path, 1000)
    run, truth = read(folder, direction)
    (part,) = (part for part in report["retrieval"] if part["direction"] == direction)
    assert len(run) == len(truth) == part["queries"]
    assert {len(found) for found in run.values()} == {part["gallery"]}
    names = {
        "map": "mean_average_precision",
        "recip_rank": "mean_reciprocal_rank",
        "ndcg_cut_10": "ndcg@10",
        "success_1": "recall@1",
        "success_5": "recall@5",
        "success_10": "recall@10",
        "recall_5": "true_recall@5",
    }
    measures = {"map", "recip_rank", "ndcg_cut.10", "success.1,5,10", "recall.5"}
    scored = pytrec_eval.RelevanceEvaluator(truth, measures).evaluate(run)
    figures = {figure["key"]: figure["value"] for figure in part["figures"]}
    for theirs, ours in names.items():
        assert figures[f"{direction}.{ours}"] == pytest.approx(np.mean([one[theirs] for one in scored.values()]))


def test_results_are_those_of_exact_search_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranked, "_QUERIES", 40)
    monkeypatch.setattr(ranked, "_GALLERY", 17)
    _, folder = made(tmp_path, 7)
    scores = CAPTIONS[:150].astype(float) @ IMAGES.astype(float).T
    expected = []
    for caption, row in enumerate(ROWS[:150]):
        if row:  # the captions of the first image belong to none that was embedded
            best = np.argsort(-scores[caption], kind="stable")[:7]
            name = f"{IMAGE_ROWS[row]}/{caption % 3}"
            expected += [
                [name, "Q0", str(IMAGE_ROWS[image]), str(rank), repr(scores[caption, image].item()), "clipmill"]
                for rank, image in enumerate(best.tolist(), start=1)
            ]
    assert lines(folder / "report.t2i.run") == expected
    answers = {(query, item) for query, _, item, _ in lines(folder / "report.i2t.qrels")}
    assert answers == {
        (str(IMAGE_ROWS[row]), f"{IMAGE_ROWS[row]}/{caption % 3}") for caption, row in enumerate(ROWS[:150]) if row
    }


def test_the_files_belong_to_the_report(tmp_path: Path) -> None:
    report, folder = made(tmp_path, 5)
    assert set(report["trec"]["files"]) == {path.name for path in folder.glob("report.?2?.*")}
    assert len(report["trec"]["files"]) == 4
    assert "whole" in clipmill("verify", folder).stdout
    (folder / "report.t2i.run").write_text("1/0 Q0 1 1 0.5 another\n")
    result = clipmill("verify", folder)
    assert result.exit_code == 1
    assert "report.t2i.run is not the one that report.json names" in result.output
    (folder / "report.i2t.qrels").unlink()
    assert "report.i2t.qrels is missing" in clipmill("verify", folder).output


def test_nothing_is_written_where_nothing_is_asked_or_wanted(tmp_path: Path) -> None:
    report, folder = made(tmp_path, 5, captions=CAPTIONS[:0], caption_rows=[])
    assert report["trec"] is None
    assert not list(folder.glob("*.run"))
    places = ("--embeddings", tmp_path / "e", "--output", tmp_path / "other")
    assert clipmill("evaluate", *places).exit_code == 0
    assert json.loads((tmp_path / "other/report.json").read_text())["trec"] is None
    assert clipmill("evaluate", *places, "--trec", 5).exit_code == 2  # another report than what is there
