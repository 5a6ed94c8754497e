"""MTEB reads the files of an evaluation, and finds in them what it computes itself from the same vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from captioned import pairs, write_captioned
from clipmill.report.mteb_scores import CUTS, classification_scores, query_scores
from clipmill_jobs.__main__ import main

IMAGES, CAPTIONS, ROWS = pairs(1010, 3, noise=4.0)
"""Hard enough that few queries are right at once; more images than MTEB takes results."""

Run = dict[str, dict[str, float]]
Truth = dict[str, dict[str, int]]


def clipmill(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def made(folder: Path, *options: object, **dataset: Any) -> tuple[dict[str, Any], Path]:
    write_captioned(folder / "e", **{"images": IMAGES, "captions": CAPTIONS, "caption_rows": ROWS, **dataset})
    places = ("--embeddings", folder / "e", "--output", folder / "r")
    result = clipmill("evaluate", *places, "--bootstrap-samples", 10, "--mteb", *options)
    assert result.exit_code == 0, result.output
    return json.loads((folder / "r/report.json").read_text()), folder / "r"


def searched(direction: str) -> tuple[Run, Truth]:
    """The first thousand of every query, and all answers, as MTEB keeps them; every other image has one caption fewer."""
    scores = kept().astype(float) @ IMAGES.astype(float).T
    right = np.asarray(kept_rows())[:, None] == np.arange(len(IMAGES))[None]
    if direction == "i2t":
        scores, right = scores.T, right.T
    run, truth = {}, {}
    for query in range(len(scores)):
        best = np.argsort(-scores[query], kind="stable")[:1000]
        run[f"q{query:04}"] = {f"d{item}": float(scores[query, item]) for item in best}
        truth[f"q{query:04}"] = {f"d{item}": 1 for item in np.flatnonzero(right[query])}
    return run, truth


def kept_rows() -> list[int]:
    return [row for number, row in enumerate(ROWS) if number % 6]


def kept() -> NDArray[np.float16]:
    return CAPTIONS[[number for number in range(len(ROWS)) if number % 6]]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    return made(tmp_path_factory.mktemp("evaluated"), captions=kept(), caption_rows=kept_rows())


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_retrieval_is_scored_as_mteb_scores_it(evaluated: tuple[dict[str, Any], Path], direction: str) -> None:
    metrics = pytest.importorskip("mteb._evaluators.retrieval_metrics", reason="mteb is not installed")
    run, truth = searched(direction)
    found = metrics.calculate_retrieval_scores(run, truth, list(CUTS))
    each, ndcg, mean_precision, recall, precision, naucs, mrr, naucs_mrr, hit_rate = found
    del each
    expected = metrics.make_score_dict(
        ndcg=ndcg,
        _map=mean_precision,
        recall=recall,
        precision=precision,
        mrr=mrr,
        naucs=naucs,
        naucs_mrr=naucs_mrr,
        hit_rate=hit_rate,
        task_scores={},
    )
    (scores,) = json.loads((evaluated[1] / f"report.{direction}.mteb.json").read_text())["scores"]["test"]
    assert set(scores) - set(expected) == {"main_score", "hf_subset", "languages", "mteb_version"}
    assert set(expected) <= set(scores)
    for name, value in expected.items():
        assert scores[name] == (None if np.isnan(value) else pytest.approx(value, abs=1e-6)), name
    assert scores["main_score"] == scores["ndcg_at_10"]
    assert 0.02 < scores["ndcg_at_10"] < 0.9  # neither all wrong nor all right


def test_every_query_is_scored_as_trec_eval_scores_it() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
    random = np.random.default_rng(3)
    right = random.random((40, 30)) < random.random((40, 1)) * 0.4
    right[:, 7] = True
    scores = -np.sort(-random.random((40, 30)), axis=1)
    missing = random.integers(0, 20, 40)  # answers beyond the results that there are
    mine = query_scores(right, right.sum(axis=1) + missing, scores)
    run = {f"{q:02}": {f"d{d}": float(scores[q, d]) for d in range(30)} for q in range(40)}
    truth = {
        f"{q:02}": {f"d{d}": 1 for d in [*np.flatnonzero(right[q]), *range(100, 100 + missing[q])]} for q in range(40)
    }
    names = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}
    cuts = ",".join(map(str, CUTS))
    theirs = pytrec_eval.RelevanceEvaluator(truth, {f"{name}.{cuts}" for name in names.values()}).evaluate(run)
    for ours, name in names.items():
        for cut in CUTS:
            expected = [theirs[f"{q:02}"][f"{name}_{cut}"] for q in range(40)]
            np.testing.assert_allclose(mine[f"{ours}_at_{cut}"], expected, atol=1e-6, err_msg=f"{ours} at {cut}")


def test_mteb_reads_the_files(evaluated: tuple[dict[str, Any], Path]) -> None:
    results = pytest.importorskip("mteb.results", reason="mteb is not installed")
    report, folder = evaluated
    assert set(report["mteb"]["files"]) == {"report.t2i.mteb.json", "report.i2t.mteb.json"}
    result = results.TaskResult.from_disk(folder / "report.t2i.mteb.json")
    assert result.task_name == "eT2IRetrieval"
    assert result.dataset_revision == report["inputs"]["embeddings manifest"]
    written = json.loads((folder / "report.t2i.mteb.json").read_text())
    assert result.get_score() == written["scores"]["test"][0]["ndcg_at_10"]


def test_hits_and_mean_precision_are_those_of_the_report(evaluated: tuple[dict[str, Any], Path]) -> None:
    report, folder = evaluated
    for part in report["retrieval"]:
        figures = {figure["key"]: figure["value"] for figure in part["figures"]}
        (scores,) = json.loads((folder / f"report.{part['direction']}.mteb.json").read_text())["scores"]["test"]
        for cut in (1, 5, 10):
            assert scores[f"hit_rate_at_{cut}"] == pytest.approx(
                figures[f"{part['direction']}.recall@{cut}"], abs=5.1e-6
            )
        assert scores["ndcg_at_10"] == pytest.approx(figures[f"{part['direction']}.ndcg@10"], abs=5.1e-6)


def test_every_query_is_ranked_where_the_report_draws_some(
    evaluated: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    report, folder = made(tmp_path, "--query-sample", 50, captions=kept(), caption_rows=kept_rows())
    assert {part["queries"] for part in report["retrieval"]} == {50}
    for name in report["mteb"]["files"]:
        drawn, whole = (json.loads((place / name).read_text())["scores"] for place in (folder, evaluated[1]))
        assert drawn == whole


def test_the_files_belong_to_the_report(tmp_path: Path) -> None:
    _, folder = made(tmp_path, images=IMAGES[:20], captions=CAPTIONS[:60], caption_rows=ROWS[:60])
    assert "whole" in clipmill("verify", folder).stdout
    (folder / "report.t2i.mteb.json").write_text("{}")
    result = clipmill("verify", folder)
    assert result.exit_code == 1
    assert "report.t2i.mteb.json is not the one that report.json names" in result.output


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    made(tmp_path, images=IMAGES[:20], captions=CAPTIONS[:60], caption_rows=ROWS[:60])
    places = ("--embeddings", tmp_path / "e", "--output", tmp_path / "plain")
    assert clipmill("evaluate", *places).exit_code == 0
    assert not list((tmp_path / "plain").glob("*mteb*"))
    assert "mteb" not in json.loads((tmp_path / "plain/report.json").read_text())
    assert clipmill("evaluate", *places, "--mteb").exit_code == 2  # another report than what is there


@pytest.mark.parametrize("classes", [2, 5])
def test_zero_shot_is_scored_as_mteb_scores_it(classes: int) -> None:
    task = pytest.importorskip("mteb.abstasks.zeroshot_classification", reason="mteb is not installed")
    random = np.random.default_rng(classes)
    truth = random.integers(0, classes, 300)
    scores = random.normal(size=(300, classes)) + 0.7 * np.eye(classes)[truth]
    expected = task.AbsTaskZeroShotClassification._calculate_scores(None, truth.tolist(), scores)
    mine = classification_scores(truth, scores.argmax(axis=1), scores[:, 1] if scores.shape[1] == 2 else None)
    assert mine.pop("main_score") == expected["accuracy"]
    assert mine == {name: None if value is None else pytest.approx(value) for name, value in expected.items()}


def test_zero_shot_of_a_dataset_is_what_its_report_says(tmp_path: Path) -> None:
    images = tmp_path / "input"
    assert clipmill("sample", "--output", images, "--rows", 60).exit_code == 0
    places = ("--embeddings", tmp_path / "e", "--output", tmp_path / "r")
    assert clipmill("embed", "--input", images, "--output", tmp_path / "e").exit_code == 0
    result = clipmill("evaluate", *places, "--no-probe", "--bootstrap-samples", 10, "--mteb")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r/report.json").read_text())
    figures = {figure["key"]: figure["value"] for figure in report["zero_shot"]["figures"]}
    written = json.loads((tmp_path / "r/report.zero-shot.mteb.json").read_text())
    assert written["task_name"] == "eZeroShot"
    (scores,) = written["scores"]["test"]
    assert scores["accuracy"] == scores["main_score"] == pytest.approx(figures["zero-shot.acc1"])
