"""A comparison tests what both reports have, says why it does not, and is published once."""

import base64
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from captioned import unit
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.settings import CompareSettings
from clipmill.report.comparison.bars import bars_missed
from clipmill.report.comparison.comparison import make_comparison
from clipmill.report.comparison.document import Comparison, TaskChange
from two_models import CAPTIONS, IMAGES, PATHS, ROWS, caption_ranks


def compared(tmp_path: Path, *reports: str, **options: object) -> Comparison:
    settings = CompareSettings(reports=reports, output=str(tmp_path / "c"), bootstrap_samples=1000, **options)
    return make_comparison(settings).manifest


def without_keys(document: Any) -> Any:
    """A report as it was written before its figures had keys, and before they said which way is better."""
    if isinstance(document, dict):
        return {
            name: without_keys(value)
            for name, value in document.items()
            if name not in ("key", "higher_is_better", "page_version")
        }
    return [without_keys(value) for value in document] if isinstance(document, list) else document


def captions_near(images: NDArray[np.float16], noise: float) -> NDArray[np.float16]:
    """Two captions of each image, by a model that places them this far from it."""
    spread = np.random.default_rng(3).standard_normal((240, 16)) * (1.5 + noise) / 4
    return unit(images[ROWS].astype(np.float64) + spread)


def task_of(comparison: Comparison, name: str = "t2i") -> TaskChange:
    return next(task for task in comparison.candidates[0].tasks if task.task == name)


def test_differences_and_flips_are_those_of_the_ranks(good: str, bad: str, tmp_path: Path) -> None:
    task = task_of(compared(tmp_path, good, bad))
    before, after = caption_ranks(0), caption_ranks(2.0)
    changes = {change.metric: change for change in task.changes}
    for k in (1, 5, 10):
        change = changes[f"recall@{k}"]
        assert change.difference == pytest.approx((after <= k).mean() - (before <= k).mean())
        assert change.low <= change.difference <= change.high
    assert changes["mean_reciprocal_rank"].difference == pytest.approx((1 / after).mean() - (1 / before).mean())
    assert changes["median_rank"].difference == np.median(after) - np.median(before)
    assert (changes["recall@1"].verdict, changes["mean_rank"].verdict) == ("worse", "worse")
    assert changes["recall@1"].p <= changes["recall@1"].p_holm < 0.05
    flips = task.flips
    assert flips is not None
    assert flips.lost == int(((before <= 10) & (after > 10)).sum())
    assert flips.gained == int(((before > 10) & (after <= 10)).sum())
    assert flips.lost + flips.gained + flips.both + flips.neither == task.shared == 240
    example = flips.lost_examples[0]
    caption = 2 * example.row_number + (example.caption_index or 0)
    assert (example.text, example.path) == (f"caption {caption}", PATHS[0])
    assert (example.first_rank, example.second_rank) == (before[caption], after[caption])


def test_flips_both_ways_have_their_pictures(report: Callable[..., str], tmp_path: Path) -> None:
    def shade(number: int) -> bytes:
        stream = io.BytesIO()
        Image.new("L", (20, 20), 2 * number).save(stream, "PNG")
        return stream.getvalue()

    thumbnails = [shade(number) for number in range(120)]
    one, other = report(noise=1.0, thumbnails=thumbnails), report(noise=1.5, thumbnails=thumbnails)
    comparison = compared(tmp_path, one, other)
    content = (tmp_path / "c/comparison.html").read_text()
    for name in ("t2i", "i2t"):
        flips = task_of(comparison, name).flips
        assert flips is not None
        assert flips.lost_examples
        assert flips.gained_examples
        for query in (*flips.lost_examples, *flips.gained_examples):
            assert query.picture is not None
            picture = Image.open(io.BytesIO(base64.b64decode(query.picture.partition(",")[2])))
            assert picture.convert("L").getpixel((10, 10)) == 2 * query.row_number
            assert query.picture in content
    shutil.rmtree(Path(one).parent / "e")
    again = CompareSettings(reports=(one, other), output=str(tmp_path / "d"), bootstrap_samples=1000)
    flips = task_of(make_comparison(again).manifest).flips
    assert flips is not None
    assert all(query.picture is None for query in flips.lost_examples)


def test_another_order_of_files_and_rows_changes_nothing(good: str, report: Callable[..., str], tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(120)
    swapped = report(
        images=IMAGES[order],
        captions=CAPTIONS[np.repeat(order * 2, 2) + np.tile([0, 1], 120)],
        image_rows=[(1 << 32) + number for number in order],
        caption_rows=[(1 << 32) + number for number in order for _ in range(2)],
        labels=["abc"[number % 3] for number in order],
        paths=PATHS[::-1],
        texts=[f"caption {2 * number + index}" for number in order for index in range(2)],
    )
    comparison = compared(tmp_path, good, swapped)
    for task in comparison.candidates[0].tasks:
        assert task.why_not is None
        assert task.shared == max(task.first, task.second)
        assert {change.difference for change in task.changes} == {0}
        assert {change.verdict for change in task.changes} == {"no visible difference"}
        assert task.flips is not None
        assert task.flips.lost == task.flips.gained == 0


def test_reports_of_different_data_are_side_by_side_without_tests(
    good: str, report: Callable[..., str], tmp_path: Path
) -> None:
    elsewhere = report(paths=["s3://other/one.parquet"], ids=[f"other-{number}" for number in range(120)])
    comparison = compared(tmp_path, good, elsewhere)
    for task in comparison.candidates[0].tasks:
        assert (task.changes, task.flips) == ([], None)
    assert "no query in common" in (task_of(comparison).why_not or "")
    assert sum("not tested" in sentence for sentence in comparison.summary) == 3
    row = next(row for row in comparison.rows if row.key == "t2i.recall@1")
    assert [figure.value for figure in row.figures if figure] == [pytest.approx((caption_ranks(0) <= 1).mean())] * 2


def test_data_that_have_moved_are_paired_by_id_when_asked(
    good: str, report: Callable[..., str], tmp_path: Path
) -> None:
    moved = report(noise=2.0, paths=["s3://moved/one.parquet"])
    assert "240 have the same id: --match id" in (task_of(compared(tmp_path / "path", good, moved)).why_not or "")
    task = task_of(compared(tmp_path / "id", good, moved, match="id"))
    assert (task.shared, task.why_not) == (240, None)


def test_too_few_shared_queries_are_not_tested_and_most_are(
    good: str, report: Callable[..., str], tmp_path: Path
) -> None:
    def first(images: int) -> str:
        return report(
            images=IMAGES[:images],
            captions=CAPTIONS[: 2 * images],
            caption_rows=ROWS[: 2 * images],
            labels=["abc"[number % 3] for number in range(images)],
        )

    half = task_of(compared(tmp_path / "half", good, first(60)))
    assert half.changes == []
    assert "only 50.0%" in (half.why_not or "")
    comparison = compared(tmp_path / "most", good, first(110))
    most = task_of(comparison)
    assert (most.why_not, most.shared) == (None, 220)
    assert any("220 of 240 queries are in both" in note for note in comparison.notes)
    assert any("searched 120" in note for note in comparison.notes)


def test_ranks_in_galleries_of_other_sizes_are_not_tested(
    good: str, report: Callable[..., str], tmp_path: Path
) -> None:
    more = np.concatenate([IMAGES, IMAGES])
    larger = report(images=more, labels=["abc"[number % 3] for number in range(240)])
    assert "120 and 240 in the gallery" in (task_of(compared(tmp_path, good, larger)).why_not or "")


def test_captions_that_changed_in_place_are_other_queries(
    good: str, report: Callable[..., str], tmp_path: Path
) -> None:
    comparison = compared(tmp_path, good, report(texts=[f"rewritten {number}" for number in range(240)]))
    assert "changed in place" in (task_of(comparison).why_not or "")
    assert task_of(comparison, "i2t").why_not is None


def test_an_old_report_without_its_queries_is_side_by_side(good: str, bad: str, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(bad, old)
    (old / "report.queries.parquet").unlink()
    document = json.loads((old / "report.json").read_text())
    del document["queries"], document["published"]
    (old / "report.json").write_text(json.dumps(without_keys(document)))
    comparison = compared(tmp_path, good, str(old))
    assert "made before reports kept the outcome" in (task_of(comparison).why_not or "")
    assert all(row.figures[1] is not None for row in comparison.rows)
    assert [row.higher_is_better for row in comparison.rows if row.key in ("t2i.recall@1", "i2t.mean_rank")] == [
        True,
        False,
    ]
    assert bars_missed(comparison, 0.01)[0].startswith("old cannot be judged")


def test_a_report_from_before_there_were_keys_is_tested_like_any_other(good: str, bad: str, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(bad, old)
    document = without_keys(json.loads((old / "report.json").read_text()))
    assert "key" not in document["retrieval"][0]["figures"][0]
    (old / "report.json").write_text(json.dumps(document))
    new, compared_old = compared(tmp_path / "1", good, bad), compared(tmp_path / "2", good, str(old))
    assert compared_old.candidates == new.candidates
    assert [(row.key, row.figures) for row in compared_old.rows] == [(row.key, row.figures) for row in new.rows]


def test_reciprocal_ranks_of_tied_items_are_compared_as_they_are_reported(
    report: Callable[..., str], tmp_path: Path
) -> None:
    # Every image has two exact copies, so no rank is certain; each caption has one positive, so that MRR is mAP.
    copies = IMAGES[np.arange(120) % 40]
    places = [report(noise=noise, images=copies, captions=captions_near(copies, noise)) for noise in (0.0, 2.0)]
    changes = {change.metric: change for change in task_of(compared(tmp_path, *places)).changes}
    values = [
        {figure["key"]: figure["value"] for figure in document["retrieval"][0]["figures"]}
        for document in (json.loads((Path(place) / "report.json").read_text()) for place in places)
    ]
    change = changes["mean_reciprocal_rank"]
    assert [change.first, change.second] == pytest.approx([found["t2i.mean_average_precision"] for found in values])
    assert [change.first, change.second] == pytest.approx([found["t2i.mean_reciprocal_rank"] for found in values])


def test_a_report_without_reciprocal_ranks_is_tested_in_all_else(good: str, bad: str, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(good, old)
    place = old / "report.queries.parquet"
    pq.write_table(pq.read_table(place).drop_columns(["reciprocal_rank"]), place)
    document = json.loads((old / "report.json").read_text())
    document["queries"]["sha256"] = hashlib.sha256(place.read_bytes()).hexdigest()
    (old / "report.json").write_text(json.dumps(document))
    old_task, task = task_of(compared(tmp_path / "1", str(old), bad)), task_of(compared(tmp_path / "2", good, bad))
    assert {change.metric for change in task.changes} - {change.metric for change in old_task.changes} == {
        "mean_reciprocal_rank"
    }
    assert old_task.flips == task.flips


def test_a_task_that_one_did_not_measure_is_named(good: str, report: Callable[..., str], tmp_path: Path) -> None:
    comparison = compared(tmp_path, good, report(labels=None))
    assert "did not measure it" in (task_of(comparison, "zero-shot").why_not or "")
    assert task_of(comparison).why_not is None


def test_zero_shot_is_compared_on_the_images_that_have_a_label(
    good: str, report: Callable[..., str], tmp_path: Path
) -> None:
    shuffled = np.roll(IMAGES, 1, axis=0)
    task = task_of(compared(tmp_path, good, report(images=shuffled)), "zero-shot")
    found = [pq.read_table(Path(place) / "report.queries.parquet").to_pylist() for place in (good,)]
    hits = [row["hit_1"] for row in found[0] if row["task"] == "zero-shot"]
    changes = {change.metric: change for change in task.changes}
    assert changes["acc1"].first == pytest.approx(np.mean(hits))
    assert changes["acc1"].n == 120
    assert changes["mean_per_class_recall"].first == pytest.approx(
        np.mean([np.mean(hits[number::3]) for number in range(3)])
    )


def test_three_reports_are_each_compared_with_the_first(
    good: str, bad: str, report: Callable[..., str], tmp_path: Path
) -> None:
    comparison = compared(tmp_path, good, bad, report(noise=1.0))
    assert [candidate.report for candidate in comparison.candidates] == [1, 2]
    losses = [candidate.tasks[0].changes[0].difference for candidate in comparison.candidates]
    assert losses[0] < losses[1] < 0


def test_the_folder_is_complete_and_the_same_again_is_already_there(good: str, bad: str, tmp_path: Path) -> None:
    settings = CompareSettings(reports=(good, bad), output=str(tmp_path / "c"), bootstrap_samples=1000)
    done = make_comparison(settings)
    made = done.manifest
    assert not done.already
    assert sorted(os.listdir(tmp_path / "c")) == ["comparison.html", "comparison.json", "comparison.md"]
    assert os.listdir(tmp_path) == ["c"]
    assert Comparison.model_validate_json((tmp_path / "c/comparison.json").read_bytes()) == made
    again = make_comparison(settings)
    assert (again.manifest, again.already) == (made, True)
    for change, said in (
        ({"seed": 3}, "seed: was 0, now 3"),
        ({"reports": (bad, good)}, "the reports were"),
        ({"match": "id"}, "match: was path"),
    ):
        other = settings.model_copy(update=change)
        with pytest.raises(OutputDiffers, match=said):
            make_comparison(other)
    replaced = make_comparison(settings.model_copy(update={"seed": 3, "overwrite": True}))
    assert (replaced.manifest.settings["seed"], replaced.already) == (3, False)


def test_a_report_that_was_made_anew_is_another(good: str, bad: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bad, copy)
    settings = CompareSettings(reports=(good, str(copy)), output=str(tmp_path / "c"), bootstrap_samples=1000)
    make_comparison(settings)
    (copy / "report.json").write_text((copy / "report.json").read_text() + "\n")
    with pytest.raises(OutputDiffers, match="copy was made anew"):
        make_comparison(settings)


def test_bars_judge_drops_that_are_visible_and_large(good: str, bad: str, tmp_path: Path) -> None:
    comparison = compared(tmp_path, good, bad)
    change = task_of(comparison).changes[0]
    assert any("text → image R@1 fell" in said for said in bars_missed(comparison, -change.difference - 0.001))
    assert not any("text → image R@1 fell" in said for said in bars_missed(comparison, -change.difference + 0.001))
    assert bars_missed(compared(tmp_path / "back", bad, good), 0.0) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "report.json").unlink(), "has no report.json"),
        (lambda folder: (folder / "report.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "report.queries.parquet").unlink(), "report.queries.parquet is missing"),
        (
            lambda folder: (folder / "report.queries.parquet").write_bytes(b"x"),
            "is not the file that report.json names",
        ),
        (
            lambda folder: (folder / "report.json").write_text(
                (folder / "report.json").read_text().replace('"schema_version": 1', '"schema_version": 99')
            ),
            "newer clipmill",
        ),
    ],
)
def test_what_is_no_whole_report_is_refused(
    spoil: Callable[[Path], object], said: str, good: str, bad: str, tmp_path: Path
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(bad, folder)
    spoil(folder)
    with pytest.raises(UserError, match=said):
        compared(tmp_path, good, str(folder))
    assert not (tmp_path / "c").exists()


def test_a_folder_of_other_files_is_left_alone(good: str, bad: str, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.txt").write_text("work of years")
    with pytest.raises(UserError, match="other files"):
        compared(tmp_path, good, bad, overwrite=True)
    assert os.listdir(tmp_path / "c") == ["thesis.txt"]
