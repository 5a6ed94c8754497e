"""An index promises a recall for each kind of query and number of results, and is searched accordingly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clipmill.core.errors import UserError
from clipmill.core.manifests import GALLERY_VECTORS, Interval, OperatingPoint, Promise
from clipmill.core.settings import IndexSettings
from clipmill.core.settings.base import build
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.build import make_build
from clipmill.index.build.queries import draw_gallery_queries
from clipmill.index.search.search import Index
from clustered import image_and_caption_vectors

N, SEED = 4000, 11


@pytest.fixture(scope="module")
def index(clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index]) -> Index:
    dataset = clustered_embeddings(N, 900, dimension=32, seed=SEED)
    return indexed(dataset, factory="IVF64,PQ8x4fsr", target_recall=0.9, tuning_queries=400, tune_k=(40,), k=5)


def recall(index: Index, queries: np.ndarray, k: int, own: np.ndarray | None, alike: str | None) -> float:
    vectors = image_and_caption_vectors(N, 900, 32, seed=SEED)[0].astype(np.float32)
    exact = queries @ vectors.T
    if own is not None:
        exact[np.arange(len(own)), own] = -np.inf
    least = np.sort(exact, axis=1)[:, -k]
    found = index.search(queries, k + (own is not None), alike=alike)[1]
    there = np.take_along_axis(exact, np.maximum(found, 0), axis=1)
    hits = ((there >= least[:, None] - 2e-6) & (found >= 0)).sum(axis=1)
    return float(np.minimum(hits, k).mean() / k)


def test_there_is_a_promise_for_each_kind_and_number(index: Index) -> None:
    there = [(one.query_kind, one.k) for one in [index.manifest.promise, *index.manifest.promises]]
    assert there == [("captions", 5), ("captions", 40), (GALLERY_VECTORS, 5), (GALLERY_VECTORS, 40)]
    assert all(one.target_met and one.measured_recall.value >= 0.9 for one in index.manifest.promises)


@pytest.mark.parametrize("k", [5, 40])
def test_captions_that_nothing_was_tuned_on_find_what_was_promised(index: Index, k: int) -> None:
    captions = image_and_caption_vectors(N, 900, 32, seed=SEED)[1].astype(np.float32)
    assert recall(index, captions, k, None, "captions") >= 0.88


def test_pictures_find_what_was_promised_for_them(index: Index) -> None:
    queries = image_and_caption_vectors(N, 900, 32, seed=SEED)[0][::7].astype(np.float32)
    own = np.arange(N)[::7]
    assert recall(index, queries, 39, own, "images") >= 0.88


def test_a_search_takes_the_point_that_fits_what_is_asked(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(
        type(index.sharded), "search", lambda self, queries, k, **told: asked.append((told["nprobe"], told["rerank"]))
    )
    query = np.ones((1, 32), np.float32)
    for alike, k in [("captions", 5), ("captions", 6), ("images", 1), ("images", 40), (None, 5)]:
        index.search(query, k, alike=alike)
    first, (deep, picture, pictures) = index.manifest.promise, index.manifest.promises
    expected = [
        (one.operating_point.nprobe, one.operating_point.rerank) for one in (first, deep, picture, pictures, first)
    ]
    assert asked == expected


def test_more_than_was_promised_is_looked_for_further() -> None:
    found = Interval(value=0.9, low=0.9, high=0.9, n=10)
    point = OperatingPoint(nprobe=10, rerank=40, recall=found, confirmed_recall=None, milliseconds_per_query=1)
    promise = Promise(query_kind="captions", k=10, target_met=True, operating_point=point)
    assert promise.at(3) == promise.at(10) == (10, 40)
    nprobe, rerank = promise.at(50)
    assert rerank == 200
    assert 10 < nprobe < 50


@pytest.mark.parametrize(("given", "told"), [("0", "must be 1 or more"), ("10,many", "'many' is not a whole number")])
def test_a_number_of_results_that_is_none_is_told(given: str, told: str) -> None:
    with pytest.raises(UserError, match=f"^--tune-k: .*{told}"):
        build(IndexSettings, {"embeddings": "in", "output": "out", "tune_k": given})


def test_no_more_results_are_tuned_for_than_can_be_asked_for(
    clustered_embeddings: Callable[..., Embeddings], tmp_path: Path
) -> None:
    values = {"output": str(tmp_path / "index"), "factory": "IVF4,Flat", "tune_k": (7, 10**9), "k": 3}
    dataset = clustered_embeddings(60, 20).location.uri
    numbers = make_build(IndexSettings.model_validate({"embeddings": dataset, **values})).numbers_of_results
    assert numbers == [3, 7, 59]


def test_queries_of_the_gallery_know_their_own_position(clustered_embeddings: Callable[..., Embeddings]) -> None:
    from clipmill.index.build.gallery import Gallery

    drawn = draw_gallery_queries(Gallery(clustered_embeddings(300, 40), "images"), 20, seed=3)
    vectors = image_and_caption_vectors(300, 40, 16, seed=0)[0].astype(np.float32)
    assert drawn.own is not None
    np.testing.assert_array_equal(drawn.all, vectors[drawn.own])
