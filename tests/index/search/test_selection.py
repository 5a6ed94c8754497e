"""A search with a condition finds the best of the rows that meet it, whether they are many, few or none."""

from collections.abc import Callable

import numpy as np
import pytest

from clipmill.core.errors import UserError
from clipmill.datasets.manifests import Embeddings
from clipmill.index.search import search as search_module
from clipmill.index.search.search import Index
from clustered import image_and_caption_vectors, write_embeddings

N, DIMENSION = 6000, 16


@pytest.fixture(scope="module")
def labels() -> list[str]:
    """Rare labels among common ones, which go with no direction of the vectors."""
    rng = np.random.default_rng(5)
    return rng.choice(["common", "usual", "rare", "single"], N, p=[0.6, 0.35, 0.0498, 0.0002]).tolist()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, labels: list[str]) -> Embeddings:
    vectors = image_and_caption_vectors(N, 400, DIMENSION, seed=3)
    return Embeddings.open(str(write_embeddings(tmp_path_factory.mktemp("labelled"), *vectors, labels=labels)))


@pytest.fixture(scope="module")
def stored(dataset: Embeddings) -> np.ndarray:
    column = dataset.table("images", ["embedding"]).column("embedding").combine_chunks()
    return np.array(column.to_pylist(), dtype=np.float32)


def best(queries: np.ndarray, stored: np.ndarray, passes: np.ndarray, k: int) -> np.ndarray:
    """Scores of the best ``k`` rows that pass, best first, −inf where there are fewer."""
    scores = np.where(passes, queries @ stored.T, -np.inf)
    return -np.sort(-scores, axis=1)[:, :k]


@pytest.mark.parametrize("factory", ["Flat", "IVF32,PQ8x4fsr", "PCAR8,IVF16,SQ8", "SQ8", "PQ8x4fs", "HNSW16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_only_rows_that_meet_the_condition_are_found(
    dataset: Embeddings, stored: np.ndarray, labels: list[str], indexed: Callable[..., Index], factory: str, shards: int
) -> None:
    index = indexed(dataset, factory=factory, shards=shards)
    queries = image_and_caption_vectors(20, 20, DIMENSION, seed=9)[1].astype(np.float32)
    for where in (
        "label = 'rare'",
        "label = 'common'",
        "label = 'single' or row < 7",
        "row % 2 = 0 and id <> 'image-0'",
    ):
        selection = index.select(where)
        rows = np.arange(N)
        of_label = np.array(labels)
        passes = {
            "label = 'rare'": of_label == "rare",
            "label = 'common'": of_label == "common",
            "label = 'single' or row < 7": (of_label == "single") | (rows < 7),
            "row % 2 = 0 and id <> 'image-0'": (rows % 2 == 0) & (rows > 0),
        }[where]
        assert selection.count == passes.sum()
        np.testing.assert_array_equal(selection.positions, np.flatnonzero(passes))
        assert [selection.holds(position) for position in range(0, N, 97)] == passes[::97].tolist()
        scores, positions = index.search(queries, 10, selection=selection)
        assert passes[positions[positions >= 0]].all()
        np.testing.assert_allclose(scores, best(queries, stored, passes, 10), atol=1e-5)


def test_many_rows_are_left_out_inside_faiss_at_no_loss_of_recall(
    dataset: Embeddings, stored: np.ndarray, indexed: Callable[..., Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "SCORED_ROWS", 100)
    index = indexed(dataset, factory="IVF64,PQ8x4fsr", shards=2, target_recall=0.9)
    queries = image_and_caption_vectors(300, 300, DIMENSION, seed=11)[1].astype(np.float32)

    def recall(passes: np.ndarray, where: str | None) -> float:
        selection = None if where is None else index.select(where)
        scores, positions = index.search(queries, 10, selection=selection)
        assert passes[positions[positions >= 0]].all()
        return float(np.mean(scores >= best(queries, stored, passes, 10)[:, -1:] - 2e-6))

    rows = np.arange(N)
    whole = recall(rows >= 0, None)
    assert 0.85 < whole < 1
    for where, passes in (("row % 2 = 0", rows % 2 == 0), ("row % 20 = 0", rows % 20 == 0), ("row < 500", rows < 500)):
        assert recall(passes, where) >= whole - 0.02, where


@pytest.mark.parametrize("factory", ["Flat", "PCAR8,IVF16,SQ8", "SQ8", "PQ8x4fs", "HNSW16"])
def test_every_kind_leaves_rows_out_or_has_them_scored(
    dataset: Embeddings,
    stored: np.ndarray,
    indexed: Callable[..., Index],
    monkeypatch: pytest.MonkeyPatch,
    factory: str,
) -> None:
    """Also where no selection is few: what FAISS cannot leave out is scored row by row."""
    monkeypatch.setattr(search_module, "SCORED_ROWS", 0)
    index = indexed(dataset, factory=factory, shards=2, target_recall=0.9)
    queries = image_and_caption_vectors(100, 100, DIMENSION, seed=12)[1].astype(np.float32)
    passes = np.arange(N) % 3 == 0
    scores, positions = index.search(queries, 10, selection=index.select("row % 3 = 0"))
    assert passes[positions[positions >= 0]].all()
    assert np.mean(scores >= best(queries, stored, passes, 10)[:, -1:] - 2e-6) > 0.85


def test_fewer_rows_than_asked_for_leave_gaps_and_none_leaves_nothing(
    dataset: Embeddings, indexed: Callable[..., Index]
) -> None:
    index = indexed(dataset, factory="IVF32,PQ8x4fsr")
    query = index.vectors_at(np.array([4]))
    scores, positions = index.search(query, 5, selection=index.select("row in (17, 4, 99)"))
    assert sorted(positions[0, :3].tolist()) == [4, 17, 99]
    assert positions[0, 3:].tolist() == [-1, -1]
    assert np.isneginf(scores[0, 3:]).all()
    scores, positions = index.search(query, 5, selection=index.select("row < 0"))
    assert (positions == -1).all()
    assert np.isneginf(scores).all()


def test_a_row_that_is_left_out_is_not_found_beside_those_like_it(
    dataset: Embeddings, indexed: Callable[..., Index]
) -> None:
    index = indexed(dataset)
    assert index.search_like(4, 3, selection=index.select("row <> 4"))[1][0, 0] != 4
    assert index.search_like(4, 3, selection=index.select("row < 100"))[1][0, 0] == 4


def test_a_column_that_is_not_there_is_named(dataset: Embeddings, indexed: Callable[..., Index]) -> None:
    with pytest.raises(UserError, match=r"there is no column 'year'.*there are row, id, label"):
        indexed(dataset).select("year > 2000")
