"""An index file made elsewhere is taken over whole, or refused with a reason."""

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.index.build.build import make_build
from clipmill.index.search.search import Index
from indexing import build_here

ROWS, DIMENSION = 3000, 16


@pytest.fixture(scope="module")
def dataset(clustered_embeddings: Callable[..., Embeddings]) -> Embeddings:
    return clustered_embeddings(ROWS, 400, DIMENSION, files=3)


@pytest.fixture(scope="module")
def vectors(dataset: Embeddings) -> np.ndarray:
    parts = [
        vectors_of(dataset.open_shard(shard).read(columns=["embedding"]).column("embedding"))
        for shard in dataset.shards_of("images")
    ]
    return np.concatenate(parts).astype(np.float32)


def made_elsewhere(factory: str, vectors: np.ndarray, path: Path, metric: int = faiss.METRIC_INNER_PRODUCT) -> Path:
    index = faiss.index_factory(vectors.shape[1], factory, metric)
    index.train(vectors)
    ids = (np.arange(len(vectors)),) if factory.startswith("IDMap") else ()
    (index.add_with_ids if ids else index.add)(vectors, *ids)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.make_direct_map()
    faiss.write_index(index, str(path))
    return path


def take_over(dataset: Embeddings, path: Path, output: Path, **settings: object) -> Index:
    values = {"embeddings": dataset.location.uri, "output": str(output), "tuning_queries": 60, "foreign": str(path)}
    return build_here(make_build(IndexSettings.model_validate({**values, **settings})))


@pytest.mark.parametrize("factory", ["PCAR16,IVF16_HNSW8,PQ8x8np", "IVF16,PQ8x4fsr", "HNSW16", "Flat"])
def test_it_finds_what_it_found_elsewhere_and_its_recall_is_measured(
    dataset: Embeddings, vectors: np.ndarray, tmp_path: Path, factory: str
) -> None:
    path = made_elsewhere(factory, vectors, tmp_path / "image.index")
    index = take_over(dataset, path, tmp_path / "index")
    queries = np.random.default_rng(1).standard_normal((50, DIMENSION)).astype(np.float32)
    elsewhere = faiss.read_index(str(path))
    ivf = faiss.try_extract_index_ivf(elsewhere)
    if ivf is not None:
        ivf.nprobe = 16
    scores, _ = elsewhere.search(queries, 5)
    again, _ = index.sharded.search(queries, 5, nprobe=16, rerank=0)
    np.testing.assert_allclose(again, scores, rtol=1e-5)
    best = np.sort(queries @ vectors.T, axis=1)[:, -10:]
    reranked, _ = index.sharded.search(queries, 10, nprobe=16, rerank=ROWS)
    if ivf is not None or factory == "Flat":
        np.testing.assert_allclose(reranked[:, ::-1], best, atol=2e-3)
    assert index.manifest.operating_point.recall.value > 0.5
    assert index.manifest.configuration["foreign_sha256"]


def test_it_is_not_what_an_index_built_here_would_be(dataset: Embeddings, vectors: np.ndarray, tmp_path: Path) -> None:
    path = made_elsewhere("Flat", vectors, tmp_path / "image.index")
    take_over(dataset, path, tmp_path / "index")
    values = {"embeddings": dataset.location.uri, "output": str(tmp_path / "index"), "tuning_queries": 60}
    assert make_build(IndexSettings.model_validate({**values, "foreign": str(path)})).finished()
    with pytest.raises(OutputDiffers, match="foreign sha256: was"):
        make_build(IndexSettings.model_validate(values)).finished()


def test_other_vectors_or_another_order_are_refused(dataset: Embeddings, vectors: np.ndarray, tmp_path: Path) -> None:
    path = made_elsewhere("IVF16,PQ8np", vectors[::-1].copy(), tmp_path / "image.index")
    with pytest.raises(UserError, match=r"other vectors than .* in another order"):
        take_over(dataset, path, tmp_path / "index")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda vectors, path: made_elsewhere("IVF16,PQ8np", vectors[:2000], path), "2,000 vectors of 16 dimensions"),
        (lambda vectors, path: made_elsewhere("IVF16,PQ8np", vectors[:, :8].copy(), path), "of 8 dimensions"),
        (lambda vectors, path: made_elsewhere("Flat", vectors, path, faiss.METRIC_L2), "by distance"),
        (lambda vectors, path: made_elsewhere("IDMap,Flat", vectors, path), "IndexIDMap cannot be searched here"),
        (lambda vectors, path: path.write_bytes(b"no index at all"), "FAISS cannot read it"),
        (lambda vectors, path: path, "no such file"),
    ],
)
def test_what_cannot_be_searched_here_is_refused(
    dataset: Embeddings, vectors: np.ndarray, tmp_path: Path, make: Callable[..., object], reason: str
) -> None:
    path = tmp_path / "image.index"
    make(vectors, path)
    with pytest.raises(UserError, match=reason):
        take_over(dataset, path, tmp_path / "index")


def test_a_file_cut_short_is_refused(dataset: Embeddings, vectors: np.ndarray, tmp_path: Path) -> None:
    path = made_elsewhere("IVF16,PQ8np", vectors, tmp_path / "image.index")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cut short"):
        take_over(dataset, path, tmp_path / "index")


def test_a_size_beyond_the_file_is_refused_before_memory_is_taken(
    dataset: Embeddings, vectors: np.ndarray, tmp_path: Path
) -> None:
    path = made_elsewhere("Flat", vectors, tmp_path / "image.index")
    data = bytearray(path.read_bytes())
    claimed = len(vectors) * DIMENSION  # FAISS counts the floats that follow
    at = bytes(data).index(claimed.to_bytes(8, "little"))
    data[at : at + 8] = (10**11).to_bytes(8, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"limit|exceed"):
        take_over(dataset, path, tmp_path / "index")
    assert faiss.get_deserialization_loop_limit() == 0  # as before


def test_how_it_is_made_cannot_be_chosen_any_more(dataset: Embeddings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave out --factory and --shards"):
        take_over(dataset, tmp_path / "image.index", tmp_path / "index", shards=3)
