"""The report shows hit rate and true recall apart, duplicates, smaller galleries, folds, and recall through an index."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from captioned import pairs, write_captioned
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.retrieval import folds
from clipmill.index.search.search import Index
from clipmill.report.document import Report
from clipmill.report.page import html_text
from reported import evaluate, load_encoder, make_report

IMAGES, CAPTIONS, ROWS = pairs(30, 3, noise=3.0)


def shown(report: Report) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html_text(report)))


def made(tmp_path: Path, **dataset: object) -> Report:
    return make_report(tmp_path, images=IMAGES, captions=CAPTIONS, caption_rows=ROWS, **dataset)


def test_hit_rate_and_true_recall_are_named_and_defined_apart(tmp_path: Path) -> None:
    report = made(tmp_path)
    t2i, i2t = ({figure.metric: figure for figure in part.figures} for part in report.retrieval)
    assert i2t["true_recall@1"].value < i2t["recall@1"].value
    assert "at least one positive" in i2t["recall@1"].definition
    assert "Share of a query's positives" in i2t["true_recall@1"].definition
    assert t2i["true_recall@5"].value == pytest.approx(t2i["recall@5"].value)
    assert t2i["mean_average_precision"].value == pytest.approx(t2i["mean_reciprocal_rank"].value)
    text = shown(report)
    assert "In text → image each query has one positive, so true recall@K is R@K and mAP is MRR." in text
    assert "In image → text each query" not in text


def test_duplicates_are_said_to_count_as_misses(tmp_path: Path) -> None:
    copies = np.concatenate([CAPTIONS[:1].repeat(90 - 30, axis=0), CAPTIONS[60:]])
    report = make_report(tmp_path, images=IMAGES, captions=copies, caption_rows=ROWS, texts=["the same"] * 90)
    assert (
        "59 captions and 0 images repeat an earlier one exactly. A copy that belongs to another row counts as a miss"
        in (shown(report))
    )


def test_smaller_galleries_end_in_the_recall_itself(tmp_path: Path) -> None:
    report = made(tmp_path)
    for part, gallery in zip(report.retrieval, (30, 90), strict=True):
        assert list(part.smaller[1]) == [10, gallery]
        assert part.smaller[1][gallery] == pytest.approx(part.curve[1])
        assert part.smaller[10][gallery] == pytest.approx(part.curve[10])
        assert part.smaller[1][10] > part.smaller[1][gallery]
    assert "R@1 by size of the gallery" in shown(report)


def test_the_protocols_are_shown_where_there_are_images_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "need 5,000 images with a caption" in shown(made(tmp_path))
    monkeypatch.setattr(folds, "FOLD_IMAGES", 6)
    (tmp_path / "other").mkdir()
    report = made(tmp_path / "other")
    assert [(part.name, part.direction, part.folds, part.images) for part in report.protocols] == [
        ("1k", "t2i", 5, 6),
        ("1k", "i2t", 5, 6),
        ("5k", "t2i", 1, 30),
        ("5k", "i2t", 1, 30),
    ]
    assert report.protocols[2].figures[0].value == pytest.approx(report.retrieval[0].figures[0].value)
    assert "need 5,000 images" not in shown(report)


def test_recall_through_an_exact_index_is_that_of_exact_search(indexed: Callable[..., Index], tmp_path: Path) -> None:
    place = write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS)
    index = str(Path(indexed(Embeddings.open(place)).table.paths[0]).parent)
    settings = EvaluateSettings(
        embeddings=place, index=index, output=str(tmp_path / "r"), templates="plain", bootstrap_samples=50
    )
    report = evaluate(settings, load_encoder, tmp_path).manifest
    assert report.fidelity is not None
    through = report.fidelity.through
    assert through is not None
    assert (through.direction, through.queries) == ("t2i", 90)
    assert [figure.metric for figure in through.figures[:3]] == ["exact_recall@1", "index_recall@1", "less_recall@1"]
    for exact, found, less in zip(*[iter(through.figures)] * 3, strict=True):
        assert found.value == exact.value
        assert less.value == 0
        assert less.low < 0 < less.high
    assert "90 queries that the index was not tuned on" in shown(report)


def test_an_older_report_without_these_figures_is_still_read_and_shown(tmp_path: Path) -> None:
    document = made(tmp_path).model_dump(mode="json")
    del document["protocols"]
    for part in document["retrieval"]:
        del part["smaller"], part["most_positives"]
        for name in ("true_recall", "ndcg", "mean_average_precision"):
            part["figures"] = [figure for figure in part["figures"] if name not in figure["key"]]
    older = Report.model_validate(document)
    assert "True recall" not in shown(older)
    assert "R@10" in shown(older)
