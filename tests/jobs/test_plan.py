"""The plan command: what it prints, what it is calibrated with, and what it is compared with."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clipmill.core.forecasts import Forecast, ForecastFigure
from clipmill.core.manifests import (
    EmbeddingsManifest,
)
from clipmill.datasets.manifests import read_manifest, write_manifest
from clipmill.datasets.shards import SHARDS_FILE
from clipmill.report.plan_lines import plan_lines
from clipmill.storage import resolve, sha256
from clipmill_jobs.plan import command
from clustered import image_and_caption_vectors, write_embeddings
from estimate.manifests import manifest

FIGURES = {"embed_seconds", "index_seconds", "wall_seconds", "core_hours", "embedding_bytes", "staging_bytes"}
FIGURES |= {"evaluate_seconds", "index_memory_bytes", "index_bytes", "index_shards", "object_store_bytes"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def write_run(folder: Path, rows: int, wall: float, stage_seconds: float) -> Path:
    """Embeddings of so many rows with a caption each, made in this time on two cores."""
    folder.mkdir()
    write_embeddings(folder, *image_and_caption_vectors(rows, rows, 16, 0), files=1)
    seconds = {"encode_images": stage_seconds, "cpu": stage_seconds}
    made = manifest(rows, wall, seconds, captions=rows)
    sums = {"shards_sha256": sha256(resolve(folder) / SHARDS_FILE)}
    write_manifest(resolve(folder), made.model_copy(update=sums))
    return folder


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("trial") / "embeddings", 1000, 25.0, 10.0)


def test_every_number_comes_with_its_range_and_what_was_assumed() -> None:
    done = run(
        "--rows",
        100_000_000,
        "--model",
        "ViT-L-14",
        "--machine",
        "g6.12xlarge",
        "--machines",
        2,
        "--price",
        4.6,
        "--json",
    )
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)["figures"]
    assert set(figures) == FIGURES | {"gpu_hours", "feeding_cores", "cost"}
    assert all(one["low"] <= one["value"] <= one["high"] and one["basis"] for one in figures.values())
    hours = figures["wall_seconds"]["value"] / 3600
    assert figures["gpu_hours"]["value"] == pytest.approx(8 * hours)
    assert figures["core_hours"]["value"] == pytest.approx(48 * hours)
    assert figures["cost"]["value"] == pytest.approx(9.2 * hours)
    assert figures["embedding_bytes"]["value"] == pytest.approx(2e8 * (2 * 768 + 5) + 1e8 * (53 + 35), rel=1e-4)


def test_the_text_says_it_in_units_that_suit() -> None:
    done = run("--rows", 1_000_000, "--model", "ViT-B-32", "--machine", "16,1,L4")
    assert done.exit_code == 0, done.output
    assert "time to embed" in done.stdout
    assert "TFLOPS in 16 bits" in done.stdout
    assert "GPU hours" in done.stdout
    assert " GB" in done.stdout


def test_a_calibrated_plan_of_its_own_run_is_that_run(trial: Path) -> None:
    done = run("--calibrate", trial, "--compare", trial, "--json")
    assert done.exit_code == 0, done.output
    compared = json.loads(done.stdout)["compared"]
    assert compared["embed_seconds"]["planned"] == pytest.approx(25.0)
    assert compared["embedding_bytes"]["difference"] == pytest.approx(0.0, abs=1e-6)


def test_a_run_it_was_not_calibrated_on_is_beside_its_plan(trial: Path, tmp_path: Path) -> None:
    later = write_run(tmp_path / "later", 4000, 41.0, 44.0)
    done = run("--calibrate", trial, "--compare", later, "--json")
    assert done.exit_code == 0, done.output
    compared = json.loads(done.stdout)["compared"]
    assert compared["embed_seconds"]["planned"] == pytest.approx(20.0 + 4 * 10.0 / 2)
    assert compared["embed_seconds"]["difference"] == pytest.approx(40.0 / 41.0 - 1, abs=1e-4)
    assert abs(compared["embedding_bytes"]["difference"]) < 0.05
    assert (
        "planned 40.0 s, was 41.0 s: 2.4% too little was planned"
        in run("--calibrate", trial, "--compare", later).stdout
    )


def test_more_memory_buys_a_larger_index_and_less_is_refused(trial: Path) -> None:
    done = run("--rows", 10_000_000, "--calibrate", trial, "--memory", "64MB")
    assert done.exit_code == 2
    assert "--memory" in done.stderr
    assert run("--rows", 10_000_000, "--calibrate", trial, "--memory", "2GB").exit_code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--rows"),
        (["--rows", 10, "--model", "ViT-Z-9"], "--model ViT-Z-9"),
        (["--rows", 10, "--machine", "big"], "--machine big"),
        (["--rows", 10, "--machine", "8,1", "--model", "ViT-B-32"], "say which GPUs"),
        (["--rows", 10, "--image-pixels", "500"], "--image-pixels 500"),
        (["--rows", 10, "--image-bytes", "many"], "--image-bytes"),
        (["--rows", 10, "--calibrate", "/nowhere"], "is not a finished embeddings dataset"),
    ],
)
def test_a_mistake_is_one_sentence(options: list[object], said: str) -> None:
    done = run(*options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_another_model_than_that_of_the_calibrating_run_is_refused(trial: Path) -> None:
    done = run("--rows", 10, "--calibrate", trial, "--model", "ViT-B-32")
    assert done.exit_code == 2
    assert "ViT-Z-1" in done.stderr


def test_a_run_in_several_starts_is_not_compared(trial: Path, tmp_path: Path) -> None:
    later = write_run(tmp_path / "later", 500, 42.0, 44.0)
    made = read_manifest(resolve(later), EmbeddingsManifest)
    halves = [made.runs[0].model_copy(update={"rows_encoded": 250, "rows_reused": 250 * half}) for half in (0, 1)]
    write_manifest(resolve(later), made.model_copy(update={"runs": halves}))
    done = run("--calibrate", trial, "--compare", later)
    assert done.exit_code == 2
    assert "several starts" in done.stderr


def test_the_plan_of_a_run_is_told_before_and_after() -> None:
    seconds = ForecastFigure(name="embed_seconds", planned=100.0, low=80.0, high=119.0, unit="s")
    size = ForecastFigure(name="embedding_bytes", planned=2.5e6, low=2e6, high=3e6, unit="bytes")
    assert plan_lines(Forecast(basis="as version 1 took", figures=[seconds, size])) == [
        "time to embed: 100.0 s (80.0 s to 119.0 s), as version 1 took",
        "embeddings, on disk or S3: 2.5 MB (2 MB to 3 MB)",
    ]
    actual = [seconds, size.model_copy(update={"actual": 2e6})]
    assert plan_lines(Forecast(basis="as version 1 took", figures=actual)) == [
        "time to embed: planned 100.0 s; what it was is not known of a run in several starts",
        "embeddings, on disk or S3: planned 2.5 MB, was 2 MB: 25.0% too much was planned",
    ]


def test_ranking_takes_what_a_sample_takes_and_all_takes_as_much_more_as_there_are_more() -> None:
    seconds = {}
    for most in ("100k", "all"):
        done = run("--rows", 10_000_000, "--model", "ViT-B-32", "--machine", 8, "--query-sample", most, "--json")
        assert done.exit_code == 0, done.output
        seconds[most] = json.loads(done.stdout)["figures"]["evaluate_seconds"]["value"]
    assert seconds["100k"] == pytest.approx(2 * 2 * 100_000 * 10_000_000 * 512 / 1e11 / 8)
    assert seconds["all"] == pytest.approx(100 * seconds["100k"])


def test_a_number_of_queries_that_is_none_is_told() -> None:
    for text in ("many", "0"):
        done = run("--rows", 1000, "--query-sample", text)
        assert done.exit_code == 2
        assert "--query-sample" in done.output
