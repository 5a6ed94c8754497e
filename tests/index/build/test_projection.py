"""Queries and vectors that lie in different directions are each projected so that their scores, not the vectors, are kept."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from clipmill.core.manifests import INDEX_WITH_TRANSFORM, SCHEMA_VERSION
from clipmill.core.reporter import Silent
from clipmill.core.settings import IndexSettings
from clipmill.index.build import plan as plan_module
from clipmill.index.build.build import Build, make_build
from clipmill.index.build.projection import LEAST_QUERIES, VECTORS_SHARE, query_aware, second_moments
from clipmill.index.search.open import open_index
from clipmill.verification.index import verify_index
from clustered import unit, write_embeddings
from indexing import run_here

DIMENSION, DIRECTIONS, IMAGES = 256, 128, 3000


def apart(n: int, first: int, seed: int) -> np.ndarray:
    """Unit vectors which vary most from component ``first`` on, and little elsewhere."""
    spread = np.full(DIMENSION, 0.15)
    spread[first : first + 80] = 1.0
    return unit(np.random.default_rng(seed).standard_normal((n, DIMENSION)) * spread)


VECTORS, QUERIES = apart(IMAGES, 0, 0), apart(1200, 60, 1)


def lost(queries: np.ndarray, vectors: np.ndarray) -> float:
    """Mean squared error of the scores of QUERIES with VECTORS after these projections, each scaled to its best."""
    exact, found = QUERIES @ VECTORS.T, (QUERIES @ queries.T) @ (VECTORS @ vectors.T).T
    return float(((exact - found) ** 2).mean())


def test_less_of_the_scores_is_lost_than_by_the_principal_directions_of_the_vectors() -> None:
    found = query_aware(QUERIES.astype(np.float32), VECTORS.astype(np.float32), DIRECTIONS, seed=0)
    assert found is not None
    principal = np.linalg.eigh(VECTORS.T @ VECTORS)[1][:, ::-1][:, :DIRECTIONS].T
    assert lost(found.queries, found.vectors) < 0.5 * lost(principal, principal)


def test_no_pair_of_matrices_loses_less_of_the_scores_that_are_weighed() -> None:
    """By Eckart and Young: the loss is the sum of the squares of the singular values that are left out."""
    found = query_aware(QUERIES.astype(np.float32), VECTORS.astype(np.float32), DIRECTIONS, seed=0)
    assert found is not None
    of_queries, of_vectors = QUERIES.T @ QUERIES / len(QUERIES), VECTORS.T @ VECTORS / len(VECTORS)
    mixed = (1 - VECTORS_SHARE) * of_queries / np.trace(of_queries) + VECTORS_SHARE * of_vectors / np.trace(of_vectors)

    def loss(one: np.ndarray, other: np.ndarray) -> float:
        left_out = np.eye(DIMENSION) - one.T.astype(np.float64) @ other.astype(np.float64)
        return float(np.trace(left_out.T @ mixed @ left_out @ of_vectors))

    root = np.linalg.cholesky(mixed).T @ np.linalg.cholesky(of_vectors)
    least = float((np.linalg.svd(root, compute_uv=False)[DIRECTIONS:] ** 2).sum())
    assert least <= loss(found.queries, found.vectors) * (1 + 1e-3)
    assert loss(found.queries, found.vectors) < 1.2 * least


def test_projected_vectors_have_a_mean_square_of_one_and_spread_evenly() -> None:
    found = query_aware(QUERIES.astype(np.float32), VECTORS.astype(np.float32), DIRECTIONS, seed=0)
    assert found is not None
    projected = VECTORS @ found.vectors.T
    assert (projected**2).sum(axis=1).mean() == pytest.approx(1, abs=0.1)
    variances = (projected**2).mean(axis=0)
    assert variances.max() < 3 * variances.min()


def test_moments_are_means_of_products() -> None:
    vectors = np.random.default_rng(3).standard_normal((5000, 8)).astype(np.float32)
    np.testing.assert_allclose(second_moments(vectors), vectors.T.astype(np.float64) @ vectors / 5000, atol=1e-6)


def test_of_few_queries_nothing_is_learned() -> None:
    few = QUERIES[: LEAST_QUERIES - 1].astype(np.float32)
    assert query_aware(few, VECTORS.astype(np.float32), DIRECTIONS, seed=0) is None


def planned(folder: Path, captions: np.ndarray, monkeypatch: pytest.MonkeyPatch, **settings: object) -> Build:
    """An index with codes, though there are few vectors."""
    monkeypatch.setattr(plan_module, "EXACT_COMPONENTS", 0)
    embeddings = write_embeddings(folder / "embeddings", VECTORS.astype(np.float16), captions.astype(np.float16))
    values = {
        "embeddings": str(embeddings),
        "output": str(folder / "index"),
        "memory": 1_000_000,
        "tuning_queries": 400,
    }
    return make_build(IndexSettings.model_validate({**values, **settings}))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aware")
    with pytest.MonkeyPatch.context() as monkeypatch:
        manifest = run_here(planned(folder, QUERIES, monkeypatch))
    assert manifest.factory.startswith("PCAR128,IVF")
    return folder / "index"


def test_queries_are_multiplied_by_the_file_beside_the_shards(index: Path) -> None:
    opened = open_index(str(index))
    transform = np.load(index / "query_transform.npy")
    about = opened.manifest.query_transform
    assert about is not None
    assert (about.directions, about.queries, about.version) == (DIRECTIONS, 400, 1)
    assert transform.shape == (DIRECTIONS, DIMENSION)
    assert transform.dtype == np.float32
    assert opened.manifest.schema_version == INDEX_WITH_TRANSFORM
    shard = faiss.read_index(str(index / "shard-00000.faiss"))
    shard.nprobe = shard.nlist
    queries = QUERIES[800:].astype(np.float32)
    scores, _ = shard.search(queries @ transform.T, 20)
    ours, positions = opened.sharded.search(queries, 20, nprobe=shard.nlist, rerank=0)
    np.testing.assert_allclose(ours, scores, atol=1e-5)
    exact = np.sort(queries @ VECTORS.astype(np.float16).astype(np.float32).T, axis=1)[:, ::-1][:, :20]
    assert np.abs(ours - exact).mean() < 0.03  # codes are of the score itself
    assert (positions >= 0).all()


def test_a_plain_faiss_reader_gets_an_error_and_not_wrong_scores(index: Path) -> None:
    shard = faiss.read_index(str(index / "shard-00000.faiss"))
    with pytest.raises(AssertionError):
        shard.search(QUERIES[:1].astype(np.float32), 10)


def test_recall_on_queries_that_nothing_was_learned_from_is_what_tuning_says(index: Path) -> None:
    opened = open_index(str(index))
    queries = QUERIES[800:].astype(np.float32)
    exact = np.argsort(-(queries @ VECTORS.astype(np.float16).astype(np.float32).T), axis=1)[:, :10]
    found = opened.search(queries, 10)[1]
    recall = np.mean([np.isin(one, other).mean() for one, other in zip(found, exact, strict=True)])
    assert recall >= 0.93  # of 400 queries, at a target of .95


def test_verify_finds_nothing_and_then_an_altered_transform(index: Path) -> None:
    found = verify_index(str(index), quick=False, reporter=Silent())
    assert not found.faults
    file = index / "query_transform.npy"
    sound = file.read_bytes()
    file.write_bytes(sound[:-4] + bytes(4))
    try:
        found = verify_index(str(index), quick=True, reporter=Silent())
        assert found.faults == ["query_transform.npy was altered, or comes from another index"]
        with pytest.raises(Exception, match=r"query_transform.npy was altered"):
            open_index(str(index))
        file.unlink()
        found = verify_index(str(index), quick=True, reporter=Silent())
        assert found.faults == ["query_transform.npy is missing"]
        with pytest.raises(Exception, match=r"query_transform.npy is missing"):
            open_index(str(index))
    finally:
        file.write_bytes(sound)


def test_an_index_with_too_few_captions_to_learn_from_keeps_the_principal_directions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = run_here(planned(tmp_path, QUERIES[:300], monkeypatch))
    assert manifest.query_transform is None
    assert manifest.schema_version == SCHEMA_VERSION
    assert not (tmp_path / "index" / "query_transform.npy").exists()
    shard = faiss.read_index(str(tmp_path / "index" / "shard-00000.faiss"))
    assert shard.d == DIMENSION


def test_shards_of_one_training_are_the_same_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_here(planned(tmp_path / "one", QUERIES, monkeypatch))
    cut = run_here(planned(tmp_path / "three", QUERIES, monkeypatch, shards=3))
    assert cut.trained_sha256 == whole.trained_sha256
    assert cut.query_transform == whole.query_transform
    one, three = (open_index(str(tmp_path / name / "index")) for name in ("one", "three"))
    queries = QUERIES[900:].astype(np.float32)
    everywhere = {"nprobe": 1 << 10, "rerank": IMAGES}
    scores, positions = one.search(queries, 10, **everywhere)
    again, found = three.search(queries, 10, **everywhere)
    np.testing.assert_allclose(scores, again, atol=1e-6)
    assert np.array_equal(positions, found)
