"""Batches answered by actors on a real cluster are answered as by one process."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from click.testing import CliRunner, Result

from clipmill.core.settings import ClusterSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.engine.cluster import connect
from clipmill.index.search import batch
from clipmill.index.search.search import Index
from clipmill_jobs.search import command
from workers import struck

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One cluster for all of them: a command uses the connection that it finds."""
    ray.shutdown()
    with connect(ClusterSettings(cpus=4)):
        yield


@pytest.fixture(scope="module")
def index(clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index]) -> Index:
    return indexed(clustered_embeddings(30_000, 600), factory="IVF64,PQ8x4fsr", shards=3)


@pytest.fixture(scope="module")
def queries(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("queries") / "queries.npy"
    random = np.random.default_rng(3)
    np.save(path, random.standard_normal((700, index.dimension)).astype(np.float32))
    return path


def search(index: Index, queries: Path, output: Path, *options: object) -> Result:
    arguments = ["--index", index.table.paths[0].parent, "--queries", queries, "--output", output, *options]
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def answers(index: Index, queries: Path, output: Path, *options: object) -> pa.Table:
    result = search(index, queries, output, *options)
    assert result.exit_code == 0, result.output
    return pq.read_table(output)


def agree(one: pa.Table, other: pa.Table) -> None:
    """The same rows but for those at the edge of the re-rank depth, where approximate scores are equal."""
    assert one.schema == other.schema
    assert one.column("query").equals(other.column("query"))
    assert one.column("rank").equals(other.column("rank"))
    same = np.array(one.column("row")) == np.array(other.column("row"))
    assert same.mean() > 0.99
    ids = np.array(one.column("id")) == np.array(other.column("id"))
    np.testing.assert_array_equal(same, ids)
    np.testing.assert_allclose(np.array(one.column("score")), np.array(other.column("score")), atol=0.02)


@pytest.mark.parametrize("actors", [1, 2, 4])
def test_actors_find_what_one_process_finds(
    index: Index, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, actors: int
) -> None:
    monkeypatch.setattr(batch, "BATCH_RESULTS", 1000)  # a hundred queries of ten results each: seven batches
    here = answers(index, queries, tmp_path / "here.parquet")
    assert here.num_rows == 7000
    agree(here, answers(index, queries, tmp_path / "there.parquet", "--actors", actors))


@pytest.mark.parametrize("where", ["row % 3 = 0", "row < 40", "row < 0"])
def test_actors_find_only_what_meets_a_condition(index: Index, queries: Path, tmp_path: Path, where: str) -> None:
    options = ("--where", where)
    here = answers(index, queries, tmp_path / "here.parquet", *options)
    there = answers(index, queries, tmp_path / "there.parquet", "--actors", 2, *options)
    if here.num_rows == 0:
        assert there.num_rows == 0
    else:
        agree(here, there)


def test_an_actor_that_is_killed_is_started_again(
    index: Index, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BATCH_RESULTS", 100)
    here = answers(index, queries, tmp_path / "here.parquet")
    with struck("_Shards", signal.SIGKILL, times=1) as strikes:
        there = answers(index, queries, tmp_path / "there.parquet", "--actors", 2)
    assert strikes
    agree(here, there)


def test_a_condition_that_is_none_is_told_as_at_home(index: Index, queries: Path, tmp_path: Path) -> None:
    here = search(index, queries, tmp_path / "here.parquet", "--where", "no such")
    there = search(index, queries, tmp_path / "there.parquet", "--where", "no such", "--actors", 2)
    assert (there.exit_code, here.exit_code) == (2, 2)
    assert there.stderr.strip().splitlines()[-1] == here.stderr.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_actors_are_for_batches(index: Index) -> None:
    result = CliRunner().invoke(
        command, ["--index", str(index.table.paths[0].parent), "--text", "a dog", "--actors", "2"]
    )
    assert result.exit_code == 2
    assert "--actors is for --queries" in result.output
