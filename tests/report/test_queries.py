"""report.queries.parquet says how each query came out: the report's own figures follow from it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from captioned import identity, pairs, write_captioned
from clipmill.core.settings import EvaluateSettings
from clipmill.report import queries
from clipmill.report.document import Report
from clipmill.storage import resolve, sha256
from reported import evaluate, load_encoder, make_report

IMAGES, CAPTIONS, ROWS = pairs(40, 3, noise=3.0)
IMAGE_ROWS = [number if number < 25 else (1 << 32) + number for number in range(40)]
DATASET = {
    "images": IMAGES,
    "captions": CAPTIONS,
    "caption_rows": [IMAGE_ROWS[row] for row in ROWS],
    "image_rows": IMAGE_ROWS,
    "texts": [f"caption {number} {'x' * 300}" for number in range(120)],
    "labels": [None if number == 3 else "abcdef"[number % 6] for number in range(40)],
    "paths": ["s3://b/one.parquet", "/data/two.parquet"],
    "model": identity(16),
}


def made(tmp_path: Path, **changes: object) -> tuple[Report, dict[str, list[dict]]]:
    report = make_report(tmp_path, **{**DATASET, **changes})
    by_task: dict[str, list[dict]] = {}
    for row in pq.read_table(tmp_path / "r/report.queries.parquet").to_pylist():
        by_task.setdefault(row["task"], []).append(row)
    return report, by_task


def mean(rows: list[dict], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def test_the_figures_of_the_report_follow_from_its_queries(tmp_path: Path) -> None:
    report, by_task = made(tmp_path)
    for part in report.retrieval:
        figures = {figure.metric: figure.value for figure in part.figures}
        rows = by_task[part.direction]
        for k in (1, 5, 10):
            assert figures[f"recall@{k}"] == pytest.approx(mean(rows, f"hit_{k}"))
        assert figures["mean_rank"] == pytest.approx(mean(rows, "rank"))
        assert figures["mean_reciprocal_rank"] == pytest.approx(mean(rows, "reciprocal_rank"))
        assert [row["reciprocal_rank"] for row in rows] == pytest.approx([1 / row["rank"] for row in rows])
    assert report.zero_shot is not None
    figures = {figure.metric: figure.value for figure in report.zero_shot.figures}
    rows = by_task["zero-shot"]
    assert figures["acc1"] == pytest.approx(mean(rows, "hit_1"))
    assert figures["acc5"] == pytest.approx(mean(rows, "hit_5"))
    assert sorted(row["label"] for row in rows) == sorted(label for label in DATASET["labels"] if label)


def test_queries_are_named_by_source_file_and_row_and_captions_by_their_number(tmp_path: Path) -> None:
    _, by_task = made(tmp_path)
    asked = [(row["path"], row["row_number"], row["caption_index"], row["id"]) for row in by_task["t2i"]]
    assert asked == [
        (DATASET["paths"][row >> 32], row & 0xFFFFFFFF, number % 3, f"id-{row}")
        for number, row in enumerate(DATASET["caption_rows"])
    ]
    scores = CAPTIONS.astype(float) @ IMAGES.astype(float).T
    ranks = 1 + (scores > scores[range(120), ROWS][:, None]).sum(axis=1)
    assert [row["rank"] for row in by_task["t2i"]] == ranks.tolist()
    labelled = [(row["path"], row["row_number"]) for row in by_task["zero-shot"]]
    assert labelled == [
        (DATASET["paths"][row >> 32], row & 0xFFFFFFFF) for number, row in enumerate(IMAGE_ROWS) if number != 3
    ]
    assert {row["caption_index"] for row in by_task["i2t"] + by_task["zero-shot"]} == {None}


def test_the_report_carries_the_hash_of_the_file_and_how_much_is_in_it(tmp_path: Path) -> None:
    report, by_task = made(tmp_path)
    assert report.queries is not None
    assert report.queries.sha256 == sha256(resolve(tmp_path / "r" / report.queries.file))
    assert {task: part.kept for task, part in report.queries.tasks.items()} == {
        task: len(rows) for task, rows in by_task.items()
    }
    assert {part.hash_below for part in report.queries.tasks.values()} == {1 << 32}
    assert all(len(row["text"]) == queries.TEXT_LENGTH for row in by_task["t2i"])


def test_two_reports_of_the_same_files_keep_the_same_sample_of_whole_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "QUERIES_KEPT", 60)
    monkeypatch.setattr(queries, "TEXTS_KEPT", 12)
    order = np.random.default_rng(0).permutation(40)
    swapped = [IMAGE_ROWS[number] ^ (1 << 32) for number in range(40)]
    captions = CAPTIONS[np.repeat(order * 3, 3) + np.tile([0, 1, 2], 40)]
    report, one = made(tmp_path / "1")
    _, other = made(
        tmp_path / "2",
        images=IMAGES[order],
        captions=captions,
        image_rows=[swapped[number] for number in order],
        caption_rows=[swapped[number] for number in order for _ in range(3)],
        labels=[DATASET["labels"][number] for number in order],
        paths=DATASET["paths"][::-1],
    )
    kept = [{(row["path"], row["row_number"], row["caption_index"]) for row in by["t2i"]} for by in (one, other)]
    assert kept[0] == kept[1]
    assert 30 <= len(kept[0]) <= 60
    assert len(kept[0]) == 3 * len({key[:2] for key in kept[0]})
    ranks = [{(row["path"], row["row_number"]): row["rank"] for row in by["i2t"]} for by in (one, other)]
    assert ranks[0] == ranks[1]
    assert report.queries is not None
    assert report.queries.tasks["t2i"].asked == 120
    assert report.queries.tasks["t2i"].kept == len(kept[0])
    assert 0 < sum(row["text"] is not None for row in one["t2i"]) <= 12


def test_where_nothing_was_asked_there_is_no_file(tmp_path: Path) -> None:
    place = write_captioned(tmp_path / "e", IMAGES[:2], CAPTIONS[:0], [])
    settings = EvaluateSettings(embeddings=place, output=str(tmp_path / "r"), templates="plain")
    assert evaluate(settings, load_encoder, tmp_path).manifest.queries is None
    assert not (tmp_path / "r/report.queries.parquet").exists()
