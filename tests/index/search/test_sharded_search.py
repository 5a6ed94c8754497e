"""Search finds what exact search finds, in one shard or several, and refuses what it cannot compare."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clipmill.core.errors import RunFailed, UserError
from clipmill.datasets.manifests import Embeddings
from clipmill.index.search.search import Index
from clustered import image_and_caption_vectors, write_embeddings

Make = Callable[..., Embeddings]
Indexed = Callable[..., Index]
CODED = "IVF64,PQ16x4fsr"


def vectors_of_dataset(dataset: Embeddings) -> np.ndarray:
    column = dataset.table("images", ["embedding"]).column("embedding").combine_chunks()
    return np.array(column.to_pylist(), dtype=np.float32)


def test_an_exact_index_gives_the_brute_force_result(clustered_embeddings: Make, indexed: Indexed) -> None:
    dataset = clustered_embeddings(2000, 300)
    index = indexed(dataset, shards=3)
    assert index.manifest.exact
    queries = image_and_caption_vectors(10, 10, 16, seed=9)[1].astype(np.float32)
    scores, positions = index.search(queries, 10)
    expected = np.sort(queries @ vectors_of_dataset(dataset).T, axis=1)[:, ::-1][:, :10]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    stored = index.vectors_at(positions.reshape(-1)).reshape(10, 10, 16)
    np.testing.assert_allclose(np.sum(queries[:, None] * stored, axis=-1), scores, atol=1e-5)


def test_the_target_recall_holds_on_captions_that_it_was_not_tuned_on(
    clustered_embeddings: Make, indexed: Indexed
) -> None:
    dataset = clustered_embeddings(60_000, 8000, dimension=64, row_group_size=5000)
    index = indexed(dataset, memory="4MB", target_recall=0.95, tuning_queries=800, shards=2)
    manifest = index.manifest
    assert manifest.factory == "IVF512,PQ32x4fsr"
    assert manifest.query_kind == "captions"
    assert manifest.target_met
    assert manifest.memory["total"] <= 4_000_000
    captions = dataset.table("captions", ["embedding"]).column("embedding").combine_chunks()
    others = np.array(captions.to_pylist(), dtype=np.float32)[4::5]  # most of these were not drawn for tuning
    _, positions = index.search(others, 10)
    exact = np.argsort(-(others @ vectors_of_dataset(dataset).T), axis=1)[:, :10]
    found = [len(set(one) & set(other)) / 10 for one, other in zip(positions, exact, strict=True)]
    standard_error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) + 3.09 * standard_error >= 0.95
    assert manifest.operating_point.rerank < 60_000
    assert manifest.operating_point.nprobe < 512


@pytest.mark.parametrize(
    ("factory", "shards"),
    [(CODED, 4), (CODED, 32), ("PCAR8,IVF64,PQ4x4fsr", 32), ("PCAR8,IVF32,SQ8", 4), ("SQ8", 4)],
)
def test_shards_find_what_the_whole_finds_or_better(
    clustered_embeddings: Make, indexed: Indexed, factory: str, shards: int
) -> None:
    dataset = clustered_embeddings(5000, 400)
    whole, parts = (indexed(dataset, factory=factory, shards=number) for number in (1, shards))
    assert len(parts.sharded.shards) == shards
    queries = image_and_caption_vectors(200, 200, 16, seed=5)[1].astype(np.float32)
    scores, positions = whole.search(queries, 10, nprobe=8, rerank=100)
    scores_of_parts, positions_of_parts = parts.search(queries, 10, nprobe=8, rerank=100)
    assert (scores_of_parts >= scores - 1e-6).all()
    np.testing.assert_allclose(scores, whole.sharded.vectors.scores(queries, positions), rtol=1e-5)
    of_parts = parts.sharded.vectors.scores(queries, positions_of_parts)
    np.testing.assert_allclose(scores_of_parts, of_parts, rtol=1e-5)


@pytest.mark.parametrize("shards", [4, 32])
def test_shards_give_the_approximate_scores_of_the_whole(
    clustered_embeddings: Make, indexed: Indexed, shards: int
) -> None:
    dataset = clustered_embeddings(5000, 400)
    whole, parts = (indexed(dataset, factory=CODED, shards=number) for number in (1, shards))
    queries = image_and_caption_vectors(50, 50, 16, seed=6)[1].astype(np.float32)
    np.testing.assert_array_equal(
        whole.search(queries, 30, nprobe=8, rerank=0)[0], parts.search(queries, 30, nprobe=8, rerank=0)[0]
    )


def test_one_row_is_found_and_the_missing_results_are_marked(clustered_embeddings: Make, indexed: Indexed) -> None:
    dataset = clustered_embeddings(1, 1)
    index = indexed(dataset)
    scores, positions = index.search(vectors_of_dataset(dataset), 3)
    assert positions.tolist() == [[0, -1, -1]]
    assert scores[0, 0] == pytest.approx(1, abs=2e-3)
    assert np.isneginf(scores[0, 1:]).all()
    assert index.rows_at(positions).tolist() == [[0, -1, -1]]


def test_more_results_than_rows_give_every_row_once(clustered_embeddings: Make, indexed: Indexed) -> None:
    index = indexed(clustered_embeddings(1500, 10), factory="IVF16,PQ8x4fsr", shards=2)
    _, positions = index.search(np.ones((2, 16), np.float32), 1600, nprobe=16, rerank=1600)
    assert sorted(positions[0][:1500]) == list(range(1500))
    assert (positions[:, 1500:] == -1).all()


def test_a_row_comes_first_among_what_is_like_it_though_others_have_its_vector(
    indexed: Indexed, tmp_path: Path
) -> None:
    images, captions = image_and_caption_vectors(40, 5, 16, seed=3)
    images[[4, 7, 30]] = images[30]
    index = indexed(Embeddings.open(str(write_embeddings(tmp_path, images, captions))))
    cosines = images.astype(np.float32) @ images[30].astype(np.float32)
    for k in (1, 2, 6):
        scores, positions = index.search_like(30, k)
        others = [position for position in np.argsort(-cosines, kind="stable") if position != 30]
        assert positions.tolist() == [[30, *others[: k - 1]]]
        np.testing.assert_allclose(scores[0], cosines[positions[0]], atol=1e-5)


def test_a_row_comes_first_though_its_list_is_not_searched(clustered_embeddings: Make, indexed: Indexed) -> None:
    index = indexed(clustered_embeddings(3000, 60), factory="IVF64,PQ1x4fsr", shards=2, target_recall=0.01)
    for position in range(0, 3000, 100):
        _, positions = index.search_like(position, 5)
        assert positions[0, 0] == position
        assert len(set(positions[0])) == positions.shape[1] == 5


@pytest.mark.parametrize("k", [0, -1, 100_001, 10**23])
def test_a_senseless_number_of_results_is_refused(clustered_embeddings: Make, indexed: Indexed, k: int) -> None:
    with pytest.raises(UserError, match="1 to 100000"):
        indexed(clustered_embeddings(20, 5)).search(np.ones((1, 16), np.float32), k)


def test_no_queries_give_no_results(clustered_embeddings: Make, indexed: Indexed) -> None:
    scores, positions = indexed(clustered_embeddings(20, 5)).search(np.empty((0, 16), np.float32), 4)
    assert scores.shape == positions.shape == (0, 4)


def test_queries_of_another_dimension_or_without_a_value_are_refused(
    clustered_embeddings: Make, indexed: Indexed
) -> None:
    index = indexed(clustered_embeddings(20, 5))
    with pytest.raises(UserError, match="16 dimensions"):
        index.search(np.ones((1, 8), np.float32), 3)
    with pytest.raises(UserError, match="16 dimensions"):
        index.search(np.ones(16, np.float32), 3)
    with pytest.raises(UserError, match="NaN"):
        index.search(np.full((1, 16), np.nan, np.float32), 3)


def test_an_empty_gallery_is_refused_with_what_there_is_instead(clustered_embeddings: Make, indexed: Indexed) -> None:
    with pytest.raises(UserError, match=r"no captions.*--gallery images"):
        indexed(clustered_embeddings(5, 0), gallery="captions")


def test_an_embedding_that_is_not_a_number_is_refused_with_its_row(
    clustered_embeddings: Make, indexed: Indexed, tmp_path: Path
) -> None:
    images, captions = image_and_caption_vectors(50, 5, 16, seed=0)
    images[33, 4] = np.nan
    write_embeddings(tmp_path, images, captions)
    with pytest.raises(RunFailed, match="row 33 in images"):
        indexed(Embeddings.open(str(tmp_path)))


@pytest.mark.parametrize(
    ("images", "captions", "gallery", "kind"),
    [(300, 40, "images", "captions"), (300, 40, "captions", "images"), (300, 0, "images", "gallery vectors")],
)
def test_what_it_was_tuned_on_is_said(
    clustered_embeddings: Make, indexed: Indexed, images: int, captions: int, gallery: str, kind: str
) -> None:
    manifest = indexed(clustered_embeddings(images, captions), gallery=gallery).manifest
    assert manifest.query_kind == kind
    assert manifest.n == (images if gallery == "images" else captions)
    assert manifest.operating_point.recall.value == 1


def test_a_target_out_of_reach_keeps_the_best_and_says_so(clustered_embeddings: Make, indexed: Indexed) -> None:
    index = indexed(clustered_embeddings(5000, 60), factory="IVF16,PQ1x4fsr", target_recall=0.999)
    point = index.manifest.operating_point
    assert not index.manifest.target_met
    assert point.recall.low < 0.999
    assert point.recall.value == max(other.recall.value for other in index.manifest.front)
