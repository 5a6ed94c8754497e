"""report.csv has the columns of CLIP_benchmark's builder, one row a task."""

import csv
import io
from pathlib import Path

import pytest

from captioned import identity, pairs
from clipmill.report.table import csv_text
from reported import make_report

IMAGES, CAPTIONS, ROWS = pairs(20, 3, noise=3.0)


def test_each_task_is_a_row_with_its_metrics(tmp_path: Path) -> None:
    made = make_report(
        tmp_path,
        images=IMAGES,
        captions=CAPTIONS,
        caption_rows=ROWS,
        labels=["ab"[number % 2] for number in range(20)],
        model=identity(16),
    )
    retrieval, classification, probe = csv.DictReader(io.StringIO(csv_text(made)))
    assert (retrieval["model"], retrieval["pretrained"], retrieval["dataset"]) == ("tiny", "tag", "e")
    assert (retrieval["task"], classification["task"]) == ("zeroshot_retrieval", "zeroshot_classification")
    scores = CAPTIONS.astype(float) @ IMAGES.astype(float).T
    own = scores[range(60), ROWS][:, None]
    assert float(retrieval["image_retrieval_recall@5"]) == pytest.approx(((scores > own).sum(axis=1) < 5).mean())
    best = (scores.argmax(axis=0) // 3 == range(20)).mean()
    assert float(retrieval["text_retrieval_recall@1"]) == pytest.approx(best)
    assert made.zero_shot is not None
    assert float(classification["acc1"]) == made.zero_shot.figures[0].value
    assert made.probe is not None
    assert probe["task"] == "linear_probe"
    assert float(probe["lp_acc1"]) == made.probe.figures[0].value
    assert float(probe["lp_mean_per_class_recall"]) == made.probe.figures[1].value
    assert (retrieval["acc1"], classification["acc5"], classification["image_retrieval_recall@1"]) == ("", "", "")


def test_every_row_names_its_model_and_its_dataset(tmp_path: Path) -> None:
    made = make_report(tmp_path / "photos", images=IMAGES, captions=CAPTIONS, caption_rows=ROWS)
    (row,) = csv.DictReader(io.StringIO(csv_text(made)))
    assert (row["model"], row["model_fullname"]) == ("vectors made elsewhere", "vectors made elsewhere")
    within = made.dataset.model_copy(update={"uri": "s3://b/photos/embeddings/", "name": "embeddings"})
    (row,) = csv.DictReader(io.StringIO(csv_text(made.model_copy(update={"dataset": within}))))
    assert row["dataset"] == "photos/embeddings"


def test_nothing_measured_is_a_header_alone(tmp_path: Path) -> None:
    made = make_report(tmp_path, images=IMAGES[:0], captions=CAPTIONS[:0], caption_rows=[])
    assert len(csv_text(made).splitlines()) == 1


def test_the_columns_are_those_of_the_builder(tmp_path: Path) -> None:
    """CLIP_benchmark's builder joins the keys of its result files with those of the metrics and `model_fullname`."""
    made = make_report(tmp_path, images=IMAGES, captions=CAPTIONS, caption_rows=ROWS)
    of_results = {"dataset", "model", "pretrained", "task", "language", "model_fullname"}
    of_retrieval = {f"{side}_retrieval_recall@{k}" for side in ("image", "text") for k in (1, 5, 10)}
    of_classification = {"acc1", "acc5", "mean_per_class_recall", "lp_acc1", "lp_mean_per_class_recall"}
    header = next(csv.reader(io.StringIO(csv_text(made))))
    assert sorted(header) == sorted(of_results | of_retrieval | of_classification)
