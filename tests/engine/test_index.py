"""The index graph on a real cluster: complete or absent, the same again, and never over something else."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from click.testing import CliRunner, Result

from clipmill.core.settings import ClusterSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.engine.cluster import connect
from clipmill.index.search.open import open_index
from clipmill_jobs.index import command
from clustered import image_and_caption_vectors, write_embeddings
from workers import struck

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One cluster for all of them: a command uses the connection that it finds."""
    ray.shutdown()
    with connect(ClusterSettings(cpus=2)):
        yield


@pytest.fixture(scope="module")
def dataset(clustered_embeddings: Callable[..., Embeddings]) -> Embeddings:
    return clustered_embeddings(5000, 600)


def run(dataset: Embeddings, output: Path, *options: Any) -> Result:
    arguments = ["--embeddings", dataset.location.uri, "--output", output, "--tuning-queries", 150, *options]
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_shards_built_by_tasks_make_one_searchable_index(dataset: Embeddings, tmp_path: Path) -> None:
    output = tmp_path / "index"
    result = run(dataset, output, "--factory", "IVF32,PQ8x4fsr", "--shards", 3, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["shards"] == 3
    index = open_index(str(output))
    assert index.n == 5000
    assert index.manifest.target_met
    queries = image_and_caption_vectors(300, 300, 16, seed=77)[1].astype(np.float32)
    vectors = index.vectors_at(np.arange(5000))
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    _, found = index.search(queries, 10)
    recall = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found, exact, strict=True)])
    assert recall >= 0.93
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]
    listed = {"manifest.json", "shards.parquet", "trained.faiss"}
    listed |= {f"{name}-{number:05d}.{kind}" for number in range(3) for name, kind in _SHARD_FILES}
    assert {path.name for path in output.iterdir()} == listed


_SHARD_FILES = (("shard", "faiss"), ("vectors", "npy"), ("rows", "npy"), ("rows", "parquet"))


def test_the_same_command_again_does_nothing_and_another_says_what_differs(dataset: Embeddings, tmp_path: Path) -> None:
    output = tmp_path / "index"
    assert run(dataset, output).exit_code == 0
    written = (output / "manifest.json").stat().st_mtime_ns
    again = run(dataset, output)
    assert again.exit_code == 0
    assert "already complete" in again.output
    other = run(dataset, output, "--gallery", "captions")
    assert other.exit_code == 2
    assert "gallery: was images, now captions" in other.output
    assert (output / "manifest.json").stat().st_mtime_ns == written
    assert run(dataset, output, "--gallery", "captions", "--overwrite").exit_code == 0
    assert open_index(str(output)).manifest.gallery == "captions"


def test_a_folder_of_other_things_is_left_alone(dataset: Embeddings, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    result = run(dataset, tmp_path / "mine")
    assert result.exit_code == 2
    assert "other files" in result.output
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_a_build_that_fails_leaves_the_old_index_and_tells_the_row(dataset: Embeddings, tmp_path: Path) -> None:
    output = tmp_path / "index"
    assert run(dataset, output).exit_code == 0
    images, captions = image_and_caption_vectors(100, 10, 16, seed=0)
    images[61, 0] = np.inf
    broken = Embeddings.open(str(write_embeddings(tmp_path / "broken", images, captions)))
    result = run(broken, output, "--overwrite")
    assert result.exit_code == 1
    assert "row 61" in result.output
    assert "Traceback" not in result.output
    assert open_index(str(output)).n == 5000


def test_workers_that_are_killed_while_they_fill_shards_are_survived(dataset: Embeddings, tmp_path: Path) -> None:
    output = tmp_path / "index"
    with struck("_fill", signal.SIGKILL, 2) as killed:
        result = run(dataset, output, "--factory", "IVF32,PQ8x4fsr", "--shards", 6)
    assert result.exit_code == 0, result.output
    assert len(killed) == 2
    assert open_index(str(output)).n == 5000
    assert sorted(path.name for path in output.iterdir() if path.suffix == ".tmp") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]


def test_a_worker_that_hangs_ends_the_run_by_name_and_the_next_continues(dataset: Embeddings, tmp_path: Path) -> None:
    options = ["--factory", "IVF32,PQ8x4fsr", "--shards", 24]
    with struck("_fill", signal.SIGSTOP, 1) as stopped:
        result = run(dataset, tmp_path / "index", *options, "--stall-timeout", 10)
    assert len(stopped) == 1
    assert result.exit_code == 1
    assert re.search(
        r"nothing moved for 10 s while waiting for filling shard \d+ \(vectors [\d,]+ to [\d,]+ of ", result.output
    )
    assert "same command again to continue" in result.output
    again = run(dataset, tmp_path / "index", *options, "--json")
    assert again.exit_code == 0, again.output
    first, second = json.loads(again.stdout)["runs"]
    assert first["rows_encoded"] == second["rows_reused"] > 0
    assert second["rows_encoded"] == 5000 - second["rows_reused"]
    assert "continuing: trained, " in again.stderr


def test_a_target_given_and_missed_ends_with_3_after_publishing(dataset: Embeddings, tmp_path: Path) -> None:
    output = tmp_path / "index"
    result = run(dataset, output, "--factory", "IVF16,PQ1x4fsr", "--target-recall", 0.9999)
    assert result.exit_code == 3
    assert "misses --target-recall" in result.output
    assert not open_index(str(output)).manifest.target_met


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "1KB"], "give --memory"),
        (["--factory", "Bogus"], "could not be parsed by FAISS"),
        (["--shards", "many"], "--shards"),
        (["--memory", "much"], "not a size"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(
    dataset: Embeddings, tmp_path: Path, options: list[str], message: str
) -> None:
    result = run(dataset, tmp_path / "index", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_explain_says_why_and_builds_nothing(dataset: Embeddings, tmp_path: Path) -> None:
    result = run(dataset, tmp_path / "index", "--explain", "--json")
    assert result.exit_code == 0
    plan = json.loads(result.stdout)
    assert plan["chosen"]["factory"] == "Flat"
    assert plan["chosen"]["resident_bytes"]["total"] == 5000 * 16 * 4
    assert len(plan["considered"]) > 1
    assert list(tmp_path.iterdir()) == []
