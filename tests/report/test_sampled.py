"""A report of a sample of queries says so wherever it shows a figure, and two of them are compared on the same queries."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from captioned import identity, pairs, write_captioned
from clipmill.core.errors import OutputDiffers
from clipmill.core.settings import CompareSettings, EvaluateSettings
from clipmill.evaluation.suspects import swapped
from clipmill.evaluation.suspects.find import Suspects
from clipmill.report.comparison.comparison import make_comparison
from clipmill.report.document import Report
from clipmill.report.findings import findings
from clipmill.report.markdown import markdown_text
from clipmill.report.page import html_text
from clipmill.report.table import csv_text
from clipmill.report.terminal import report_lines
from clipmill.stage.stage import Made
from reported import evaluate, load_encoder

IMAGES, CAPTIONS, ROWS = pairs(400, 2, noise=2.0)
LABELS = ["rare" if number < 12 else "often" for number in range(400)]


def made(place: Path, noise: float = 0.0, **values: object) -> Made[Report]:
    """A report at ``place``/r of captions with noise."""
    spread = np.random.default_rng(1).standard_normal(CAPTIONS.shape) * noise / 4
    said = CAPTIONS.astype(np.float64) + spread
    captions = (said / np.linalg.norm(said, axis=1, keepdims=True)).astype(np.float16)
    if not (place / "e").exists():
        write_captioned(
            place / "e", IMAGES, captions, ROWS, labels=LABELS, model=identity(16), paths=["s3://b/one.parquet"]
        )
    given = {"templates": "plain", "bootstrap_samples": 50, "probe": False, **values}
    settings = EvaluateSettings(embeddings=str(place / "e"), output=str(place / "r"), **given)
    return evaluate(settings, load_encoder, place)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sampled")
    made(place, query_sample=200, slice_by=("label",))
    return place / "r"


def read(report: Path) -> Report:
    return Report.model_validate_json((report / "report.json").read_text())


def test_every_form_says_how_many_of_how_many(sampled: Path) -> None:
    report = read(sampled)
    t2i, i2t = report.retrieval
    assert t2i.sampled is not None
    assert i2t.sampled is not None
    assert (t2i.queries, t2i.sampled.of, t2i.sampled.seed) == (200, 800, 0)
    assert (i2t.queries, i2t.sampled.of) == (200, 400)
    sentence = "200 of 800 queries were drawn (seed 0"
    assert sentence in html_text(report)
    assert sentence in markdown_text(report)
    lines = "\n".join(report_lines(report))
    assert sentence in lines
    assert "--query-sample all" in lines
    assert "200 queries drawn of 800" in lines
    (row,) = [row for row in csv.DictReader(io.StringIO(csv_text(report))) if row["task"] == "zeroshot_retrieval"]
    assert row["sampled"].startswith("t2i 200 of 800 seed 0")
    assert "800 cases (estimated from 200 that were drawn)" in " ".join(report.summary)
    for part in report.retrieval:
        assert all("the interval covers the draw" in figure.definition for figure in part.figures)


def test_small_slices_are_there_whole(sampled: Path) -> None:
    slices = read(sampled).slices
    assert slices is not None
    (column,) = slices.columns
    rare = next(one for one in column.slices if one.text == "rare")
    counts = {figure.key: figure.n for figure in rare.figures}
    assert counts["t2i.recall@1"] == 24
    assert counts["i2t.recall@1"] == 12


def test_figures_follow_from_the_weighted_outcomes_of_single_queries(sampled: Path) -> None:
    table = pq.read_table(sampled / "report.queries.parquet")
    for part in read(sampled).retrieval:
        rows = [row for row in table.to_pylist() if row["task"] == part.direction]
        weights = [row["weight"] for row in rows]
        assert part.sampled is not None
        assert sum(weights) == pytest.approx(part.sampled.of)
        found = {figure.metric: figure.value for figure in part.figures}
        for metric, column in (
            ("recall@1", "hit_1"),
            ("mean_rank", "rank"),
            ("mean_reciprocal_rank", "reciprocal_rank"),
        ):
            assert found[metric] == pytest.approx(np.average([row[column] for row in rows], weights=weights))
        assert part.curve[10] == pytest.approx(found["recall@10"])


def test_ranks_of_the_drawn_are_those_in_the_whole_gallery(sampled: Path) -> None:
    scores = CAPTIONS.astype(float) @ IMAGES.astype(float).T
    rank = 1 + np.sum(scores > scores[np.arange(800), ROWS][:, None], axis=1)
    for row in pq.read_table(sampled / "report.queries.parquet").to_pylist():
        if row["task"] == "t2i":
            assert row["rank"] == rank[2 * row["row_number"] + row["caption_index"]]


def test_the_same_command_finds_it_complete_and_another_number_of_queries_is_another_report(tmp_path: Path) -> None:
    assert not made(tmp_path, query_sample=300).already
    assert made(tmp_path, query_sample=300).already
    with pytest.raises(OutputDiffers, match="query sample"):
        made(tmp_path, query_sample="all")


def test_a_report_of_every_query_is_complete_whatever_could_have_been_drawn(tmp_path: Path) -> None:
    assert not made(tmp_path, query_sample=100_000).already
    for most in ("all", 800, 5000):
        assert made(tmp_path, query_sample=most).already
    with pytest.raises(OutputDiffers, match="query sample"):
        made(tmp_path, query_sample=799)


def test_a_sample_of_all_is_the_report_of_all(tmp_path: Path) -> None:
    reports = [made(tmp_path / name, query_sample=most).manifest for name, most in (("one", "all"), ("other", 800))]
    one, other = ([part.model_dump() for part in report.retrieval] for report in reports)
    assert one == other
    assert reports[0].alignment == reports[1].alignment


def compared(places: tuple[Path, Path], output: Path):
    settings = CompareSettings(reports=tuple(str(place / "r") for place in places), output=str(output))
    return make_comparison(settings).manifest.candidates[0].tasks[0]


def test_two_samples_of_one_seed_are_compared_on_the_same_queries_by_weight(tmp_path: Path) -> None:
    places = tmp_path / "one", tmp_path / "other"
    for place, noise in zip(places, (0.0, 1.5), strict=True):
        made(place, noise, query_sample=200, slice_by=("label",))
    task = compared(places, tmp_path / "comparison")
    assert task.why_not is None
    assert (task.shared, task.sampled_of) == (200, 800)
    tables = [pq.read_table(place / "r/report.queries.parquet").to_pylist() for place in places]
    values = [np.array([row["hit_1"] for row in rows if row["task"] == "t2i"]) for rows in tables]
    weights = [row["weight"] for row in tables[0] if row["task"] == "t2i"]
    change = next(change for change in task.changes if change.metric == "recall@1")
    assert change.difference == pytest.approx(np.average(values[1] - values[0], weights=weights))
    assert change.low <= change.difference <= change.high


def test_a_sample_is_compared_with_a_whole_report_on_what_it_drew(tmp_path: Path) -> None:
    places = tmp_path / "one", tmp_path / "other"
    made(places[0], 0.0, query_sample="all")
    made(places[1], 1.5, query_sample=100)
    task = compared(places, tmp_path / "comparison")
    assert task.why_not is None
    assert task.shared == 100


def test_samples_of_other_seeds_are_not_compared_and_the_reader_is_told_why(tmp_path: Path) -> None:
    places = tmp_path / "one", tmp_path / "other"
    made(places[0], query_sample=100)
    made(places[1], query_sample=100, seed=1)
    task = compared(places, tmp_path / "comparison")
    assert task.why_not is not None
    assert "--seed 0" in task.why_not
    assert task.changes == []


def test_wrong_captions_of_a_sample_are_told_as_such_with_what_they_come_to(sampled: Path) -> None:
    found = Suspects(swapped=swapped.Swapped(40, 1000, 0.2, swapped.InAll(50_000, 1500, 2600)))
    (finding,) = [one for one in findings(read(sampled), found) if one.kind == "captions"]
    assert "About 40 of 1,000 captions drawn" in finding.text
    assert "1,500 to 2,600 of all 50,000" in finding.text
    assert "--query-sample all" in finding.text


def test_trec_files_hold_the_queries_that_were_ranked(tmp_path: Path) -> None:
    made(tmp_path, query_sample=100, trec=5)
    table = pq.read_table(tmp_path / "r/report.queries.parquet").to_pylist()
    drawn = {f"{row['row_number']}/{row['caption_index']}" for row in table if row["task"] == "t2i"}
    asked = {line.split()[0] for line in (tmp_path / "r/report.t2i.run").read_text().splitlines()}
    assert asked == drawn
    assert json.loads((tmp_path / "r/report.json").read_text())["trec"]["depth"] == 5
