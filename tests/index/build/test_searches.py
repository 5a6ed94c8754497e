"""An index is tuned on what people asked, and measured with it: never with what it was tuned on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.core.errors import OutputDiffers, RunFailed, UserError
from clipmill.core.settings import EvaluateSettings, IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.build import make_build
from clipmill.index.build.searches import Searches
from clipmill.index.search.search import Index
from indexing import make_here
from reported import evaluate, load_encoder

Make = Callable[..., Embeddings]
Indexed = Callable[..., Index]
DIMENSION = 32


def log(place: Path, count: int, seed: int = 5, dimension: int = DIMENSION) -> str:
    """Queries as a service keeps them, each twice, of any length."""
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    both = np.concatenate([vectors, vectors])
    table = {
        "text": pa.array([None] * len(both), pa.string()),
        "embedding": pa.array(both.tolist(), pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(table), place)
    return str(place)


def all_vectors(dataset: Embeddings) -> np.ndarray:
    return np.array(dataset.table("images", ["embedding"]).column("embedding").to_pylist(), np.float32)


def recall(index: Index, queries: np.ndarray, vectors: np.ndarray, k: int) -> float:
    """By brute force; a result counts where it is as near as the k-th nearest."""
    exact = queries @ vectors.T
    least = np.sort(exact, axis=1)[:, -k]
    nprobe, rerank = index.manifest.promise_for(None, k).at(k)
    _, positions = index.sharded.search(queries, k, nprobe=nprobe, rerank=rerank)
    found = np.take_along_axis(exact, positions, axis=1) >= least[:, None] - 2e-6
    return float(found.mean())


def test_an_index_is_tuned_on_half_of_the_searches_and_confirmed_on_the_rest(
    clustered_embeddings: Make, indexed: Indexed, tmp_path: Path
) -> None:
    dataset = clustered_embeddings(4000, 400, dimension=DIMENSION)
    file = log(tmp_path / "asked.parquet", 300)
    index = indexed(dataset, factory="IVF64,PQ4x4fsr", target_recall=0.9, tuning_queries=1000, k=3, tune_on=file)
    manifest, point = index.manifest, index.manifest.operating_point
    assert manifest.query_kind == "searches"
    drawn = Searches.of(file, "--tune-on").drawn(1000, manifest.configuration["seed"], DIMENSION)
    assert (len(drawn.tuning), len(drawn.confirmation)) == (150, 150)
    np.testing.assert_allclose(np.linalg.norm(drawn.all, axis=1), 1, atol=1e-5)
    vectors = all_vectors(dataset)
    assert point.recall.value == pytest.approx(recall(index, drawn.tuning, vectors, 3))
    assert point.confirmed_recall is not None
    assert point.confirmed_recall.value == pytest.approx(recall(index, drawn.confirmation, vectors, 3))
    assert manifest.target_met


def test_the_same_searches_find_the_index_complete_and_others_are_told(
    clustered_embeddings: Make, tmp_path: Path
) -> None:
    dataset = clustered_embeddings(600, 60, dimension=DIMENSION)
    file = log(tmp_path / "asked.parquet", 40)
    values = {"embeddings": dataset.location.uri, "output": str(tmp_path / "index"), "factory": "IVF4,Flat"}
    searches = IndexSettings.model_validate({**values, "tune_on": file})
    assert not make_here(make_build(searches)).already
    assert make_here(make_build(searches)).already
    for others in (IndexSettings.model_validate(values), searches):
        if others is searches:
            log(tmp_path / "asked.parquet", 40, seed=6)
        with pytest.raises(OutputDiffers, match="tune on sha256"):
            make_here(make_build(others))


def test_a_report_measures_an_index_with_searches_that_it_was_not_tuned_on(
    clustered_embeddings: Make, indexed: Indexed, tmp_path: Path
) -> None:
    dataset = clustered_embeddings(4000, 400, dimension=DIMENSION)
    file, other = log(tmp_path / "asked.parquet", 200), log(tmp_path / "later.parquet", 120, seed=9)
    options = {"factory": "IVF64,PQ4x4fsr", "target_recall": 0.6, "tuning_queries": 500, "k": 3}
    index = indexed(dataset, **options, tune_on=file)
    place, vectors = str(Path(index.table.paths[0]).parent), all_vectors(dataset)
    seed = index.manifest.configuration["seed"]
    unseen = Searches.of(file, "--queries").drawn(500, seed, DIMENSION).confirmation
    later = Searches.of(other, "--queries").drawn(1000, seed, DIMENSION).all
    assert (len(unseen), len(later)) == (100, 120)
    for asked, queries in ((file, unseen), (other, later)):
        settings = EvaluateSettings(
            embeddings=dataset.location.uri,
            index=place,
            queries=asked,
            output=str(tmp_path / Path(asked).stem),
            bootstrap_samples=20,
        )
        report = evaluate(settings, load_encoder, tmp_path).manifest
        assert report.fidelity is not None
        figure = next(figure for figure in report.fidelity.figures if figure.key == "index.10_recall@10")
        assert figure.value == pytest.approx(recall(index, queries, vectors, 10))
        assert "searches" in figure.definition


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda place: str(place), "there is no such file"),
        (lambda place: log(place, 1), "holds 1 query"),
        (lambda place: log(place, 9, dimension=7), "vectors of 7 dimensions, the index is of 32"),
        (lambda place: pq.write_table(pa.table({"text": ["a dog"]}), place) or str(place), "texts without vectors"),
    ],
)
def test_searches_that_cannot_be_used_are_told(tmp_path: Path, make: Callable[[Path], str], told: str) -> None:
    with pytest.raises(UserError, match=f"^--tune-on .*{told}"):
        Searches.of(make(tmp_path / "asked.parquet"), "--tune-on").drawn(10, 0, DIMENSION)


def test_searches_that_change_meanwhile_end_the_run(tmp_path: Path) -> None:
    found = Searches.of(log(tmp_path / "asked.parquet", 9), "--tune-on")
    log(tmp_path / "asked.parquet", 10)
    with pytest.raises(RunFailed, match="has changed meanwhile"):
        found.drawn(10, 0, DIMENSION)
