"""An index without queries of the kind it will be asked is measured on its own vectors, none of which finds itself."""

from collections.abc import Callable

import numpy as np
import pytest

from clipmill.core.manifests import IndexManifest
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.queries import draw_queries
from clipmill.index.search.exact import without_own
from clipmill.index.search.search import Index

Make = Callable[..., Embeddings]
Indexed = Callable[..., Index]


def all_vectors(dataset: Embeddings) -> np.ndarray:
    column = dataset.table("images", ["embedding"]).column("embedding")
    return np.array(column.to_pylist(), np.float32)


def test_queries_know_where_they_stand_in_the_gallery(clustered_embeddings: Make) -> None:
    dataset = clustered_embeddings(3000, 0, row_group_size=170)
    drawn = draw_queries(Gallery(dataset, "images"), 200, seed=3)
    assert drawn.own is not None
    np.testing.assert_array_equal(all_vectors(dataset)[drawn.own], drawn.all)
    assert len(np.unique(drawn.own)) == 400
    assert draw_queries(Gallery(clustered_embeddings(300, 40), "images"), 20, seed=3).own is None


def test_only_the_query_itself_is_left_out() -> None:
    scores = np.array([[0.9, 0.9, 0.5], [0.9, 0.8, 0.7], [0.3, 0.2, -np.inf]], np.float32)
    positions = np.array([[4, 7, 1], [2, 3, 5], [8, 9, -1]])
    found = without_own((scores, positions), np.array([7, 6, 8]), 2)
    assert found[1].tolist() == [[4, 1], [2, 3], [9, -1]]  # 4 is a copy of 7
    assert found[0].tolist() == pytest.approx(np.array([[0.9, 0.5], [0.9, 0.8], [0.2, -np.inf]], np.float32))
    assert without_own((scores, positions), None, 2)[1].tolist() == [[4, 7], [2, 3], [8, 9]]


@pytest.mark.parametrize("target", [0.5, 0.95])
def test_the_recall_is_that_of_the_other_vectors(clustered_embeddings: Make, indexed: Indexed, target: float) -> None:
    dataset = clustered_embeddings(4000, 0, dimension=32)
    index = indexed(dataset, factory="IVF64,PQ4x4fsr", target_recall=target, tuning_queries=300, k=3)
    manifest, vectors = index.manifest, all_vectors(dataset)
    drawn = draw_queries(Gallery(dataset, "images"), 300, manifest.configuration["seed"])
    assert drawn.own is not None
    exact = drawn.all @ vectors.T
    exact[np.arange(600), drawn.own] = -np.inf
    least = np.sort(exact, axis=1)[:, -3]
    point = manifest.operating_point
    _, positions = index.sharded.search(drawn.all, 4, nprobe=point.nprobe, rerank=point.rerank)
    rates = []
    for query, found in enumerate(positions.tolist()):
        others = [position for position in found if position != drawn.own[query]][:3]
        rates.append(np.mean([exact[query, position] >= least[query] - 2e-6 for position in others]))
    confirmed = point.confirmed_recall
    assert confirmed is not None
    assert point.recall.value == pytest.approx(np.mean(rates[:300]))
    assert confirmed.value == pytest.approx(np.mean(rates[300:]))
    assert confirmed.value >= target


@pytest.mark.parametrize(
    ("captions", "gallery", "kind", "met"),
    [(300, "images", "captions", True), (300, "captions", "images", True), (0, "images", "gallery vectors", None)],
)
def test_no_target_is_met_without_queries_of_the_kind_that_will_be_asked(
    clustered_embeddings: Make, indexed: Indexed, captions: int, gallery: str, kind: str, met: bool | None
) -> None:
    for factory in ("Flat", "IVF4,Flat"):
        manifest = indexed(clustered_embeddings(600, captions), factory=factory, gallery=gallery).manifest
        assert (manifest.query_kind, manifest.target_met) == (kind, met)


def test_a_target_that_even_gallery_vectors_miss_is_missed(clustered_embeddings: Make, indexed: Indexed) -> None:
    index = indexed(clustered_embeddings(5000, 0), factory="IVF16,PQ1x4fsr", target_recall=0.999)
    assert index.manifest.target_met is False


@pytest.mark.parametrize("images", [1, 2, 5])
def test_a_gallery_of_a_few_vectors_is_searched_whole(
    clustered_embeddings: Make, indexed: Indexed, images: int
) -> None:
    manifest = indexed(clustered_embeddings(images, 0)).manifest
    assert (manifest.operating_point.recall.value, manifest.target_met) == (1, None)


def test_what_0_1_0_promised_of_gallery_vectors_is_read_as_not_known(
    clustered_embeddings: Make, indexed: Indexed
) -> None:
    document = indexed(clustered_embeddings(300, 0)).manifest.model_dump(mode="json")
    assert IndexManifest.model_validate({**document, "target_met": True}).target_met is None
    assert IndexManifest.model_validate({**document, "target_met": False}).target_met is False
