"""Vectors for re-ranking are stored as embedded, in half of the bytes or not at all, and the index says what that costs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipmill.core.errors import OutputDiffers, RunFailed, UserError
from clipmill.core.manifests import INDEX_VERSION, IndexManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.build import make_build
from clipmill.index.search.open import open_index
from clipmill.index.search.search import Index
from clipmill.verification.index import verify_index
from clustered import image_and_caption_vectors, write_embeddings
from indexing import run_here

N, DIMENSION, SEED = 6000, 64, 3
IMAGES, CAPTIONS = image_and_caption_vectors(N, 900, DIMENSION, SEED)
SETTINGS = {"factory": "IVF32,PQ32x4fsr", "shards": 2, "target_recall": 0.8, "tuning_queries": 400}


@pytest.fixture(scope="module")
def dataset(clustered_embeddings: Callable[..., Embeddings]) -> Embeddings:
    return clustered_embeddings(N, 900, DIMENSION, SEED)


@pytest.fixture(scope="module", params=["int8", "none", "float16"])
def index(request: pytest.FixtureRequest, dataset: Embeddings, indexed: Callable[..., Index]) -> Index:
    return indexed(dataset, rerank_vectors=request.param, **SETTINGS)


def kind_of(index: Index) -> str:
    return index.manifest.rerank_vectors.kind


def place_of(index: Index) -> Path:
    return Path(index.table.paths[0]).parent


def recall(index: Index, k: int = 10) -> float:
    queries = CAPTIONS.astype(np.float32)
    exact = queries @ IMAGES.astype(np.float16).astype(np.float32).T
    best = np.argsort(-exact, axis=1)[:, :k]
    found = index.search(queries, k, alike="captions")[1]
    return float(np.mean([len(set(one) & set(other)) for one, other in zip(found, best, strict=True)])) / k


def test_the_recall_that_was_measured_is_found_again(index: Index) -> None:
    measured = index.manifest.measured_recall
    assert recall(index) == pytest.approx(measured.value, abs=0.02)


def test_the_files_are_as_large_as_the_manifest_says(index: Index) -> None:
    files = sorted(place_of(index).glob("vectors-*.npy"))
    assert len(files) == (0 if kind_of(index) == "none" else 2)
    assert sum(np.load(file, mmap_mode="r").nbytes for file in files) == index.manifest.bytes_of_stored
    assert index.manifest.bytes_of_stored == {"float16": 2, "int8": 1, "none": 0}[kind_of(index)] * N * DIMENSION


def test_bytes_are_read_by_what_the_file_beside_them_says(index: Index) -> None:
    if kind_of(index) != "int8":
        assert not (place_of(index) / "vectors_range.npy").exists()
        return
    low, width = np.load(place_of(index) / "vectors_range.npy")
    stored = np.concatenate([np.load(file) for file in sorted(place_of(index).glob("vectors-*.npy"))])
    meant = low + (stored.astype(np.float32) + 0.5) / 255 * width
    np.testing.assert_allclose(meant, IMAGES.astype(np.float32), atol=float(width.max()) / 255)


def test_what_bytes_lose_is_measured(index: Index) -> None:
    lost = index.manifest.rerank_vectors.recall
    if kind_of(index) != "int8":
        assert lost is None
        return
    queries = CAPTIONS.astype(np.float32)
    exact = queries @ IMAGES.astype(np.float16).astype(np.float32).T
    near = queries @ index.vectors_at(np.arange(N)).T
    best, found = (np.argsort(-scores, axis=1)[:, :10] for scores in (exact, near))
    expected = np.mean([len(set(one) & set(other)) for one, other in zip(found, best, strict=True)]) / 10
    assert lost is not None
    assert lost.value == pytest.approx(expected, abs=0.01)
    assert 0.9 < lost.value < 1


def test_only_readers_that_know_them_are_let_in(index: Index) -> None:
    assert (index.manifest.schema_version == INDEX_VERSION) == (kind_of(index) != "float16")


def test_scores_are_exact_nearly_so_or_of_codes(index: Index) -> None:
    queries = CAPTIONS[:50].astype(np.float32)
    scores, positions = index.search(queries, 5)
    exact = np.einsum("qd,qkd->qk", queries, IMAGES.astype(np.float32)[positions])
    away = {"float16": 1e-3, "int8": 6e-3, "none": 0.3}[kind_of(index)]
    np.testing.assert_allclose(scores, exact, atol=away)
    assert (index.manifest.operating_point.rerank > 0) == (kind_of(index) != "none")


def test_a_row_is_searched_by_its_vector_where_there_is_one(index: Index) -> None:
    if kind_of(index) == "none":
        with pytest.raises(UserError, match="--rerank-vectors none and holds no vectors"):
            index.search_like(4321, 3)
        return
    _, positions = index.search_like(4321, 3)
    assert positions[0, 0] == 4321


@pytest.mark.parametrize("rows", [40, 3000])
def test_rows_that_meet_a_condition_are_found_and_no_others(index: Index, rows: int) -> None:
    stop = index.sharded.rows_at(np.array([rows]))[0]
    selection = index.select(f"row < {stop}")
    assert selection.count == rows
    queries = CAPTIONS[:60].astype(np.float32)
    found = index.search(queries, 5, selection=selection)[1]
    assert (found < rows).all()
    best = np.argsort(-(queries @ IMAGES[:rows].astype(np.float32).T), axis=1)[:, :5]
    share = np.mean([len(set(one) & set(other)) for one, other in zip(found, best, strict=True)]) / 5
    assert share >= (0.5 if kind_of(index) == "none" else 0.95)


def test_in_memory_they_give_the_same_results(index: Index) -> None:
    queries = CAPTIONS[:50].astype(np.float32)
    expected = index.search(queries, 10)
    opened = open_index(str(place_of(index)), resident=True)
    assert not opened.sharded.vectors.evict()
    found = opened.search(queries, 10)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


def test_it_is_proven_whole(index: Index) -> None:
    findings = verify_index(str(place_of(index)), quick=False, reporter=Silent())
    assert findings.faults == []
    assert findings.checked["rows compared with the embeddings"] == N
    assert verify_index(str(place_of(index)), quick=True, reporter=Silent()).faults == []


def test_other_vectors_under_its_name_are_noticed(dataset: Embeddings, tmp_path: Path) -> None:
    settings = {"embeddings": dataset.location.uri, "output": str(tmp_path / "i"), "rerank_vectors": "int8", **SETTINGS}
    run_here(make_build(IndexSettings.model_validate(settings)))
    np.save(tmp_path / "i" / "vectors_range.npy", np.ones((2, DIMENSION), np.float32))
    with pytest.raises(RunFailed, match=r"vectors_range.npy was altered"):
        open_index(str(tmp_path / "i"))
    faults = verify_index(str(tmp_path / "i"), quick=False, reporter=Silent()).faults
    assert any("vectors_range.npy was altered" in fault for fault in faults)


def test_another_form_is_another_index(index: Index) -> None:
    others = {"float16": "int8", "int8": None, "none": "float16"}
    values = {**index.manifest.configuration, "rerank_vectors": others[kind_of(index)]}
    names = set(IndexSettings.model_fields)
    kept = {name: value for name, value in values.items() if name in names and value is not None}
    settings = IndexSettings.model_validate(
        {**kept, "embeddings": index.manifest.embeddings, "output": str(place_of(index))}
    )
    with pytest.raises(OutputDiffers, match="rerank vectors"):
        make_build(settings).finished()


def test_an_index_that_was_made_before_is_of_float16(index: Index) -> None:
    document = index.manifest.model_dump(mode="json")
    document.pop("rerank_vectors", None)
    assert IndexManifest.model_validate(document).rerank_vectors.kind == "float16"
    assert replace(index, manifest=IndexManifest.model_validate(document)).manifest.bytes_of_stored == 2 * N * DIMENSION


def test_queries_of_the_gallery_are_no_results_of_their_own(
    clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index]
) -> None:
    """Without captions the gallery's vectors are asked with; bytes that lose little must not look as if they lost the best."""
    dataset = clustered_embeddings(4000, 0, DIMENSION, SEED)
    index = indexed(dataset, rerank_vectors="int8", **{**SETTINGS, "target_recall": 0.9})
    lost, point = index.manifest.rerank_vectors.recall, index.manifest.operating_point
    images = image_and_caption_vectors(4000, 0, DIMENSION, SEED)[0].astype(np.float32)
    exact, near = (images[:300] @ other.T for other in (images, index.vectors_at(np.arange(4000))))
    for scores in (exact, near):
        scores[np.arange(300), np.arange(300)] = -np.inf
    best, found = (np.argsort(-scores, axis=1)[:, :10] for scores in (exact, near))
    expected = np.mean([len(set(one) & set(other)) for one, other in zip(found, best, strict=True)]) / 10
    assert lost is not None
    assert lost.value == pytest.approx(expected, abs=0.02)
    assert point.recall.value >= 0.9
    assert point.rerank < 1000, "the first depths that reach it are enough"


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_vectors_lose_nothing(
    clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index], rows: int
) -> None:
    index = indexed(clustered_embeddings(rows, 0, DIMENSION, SEED), rerank_vectors="int8")
    assert index.manifest.rerank_vectors.recall is not None
    assert index.manifest.rerank_vectors.recall.value <= 1


@pytest.mark.parametrize("kind", ["int8", "none"])
def test_each_of_many_copies_is_as_good_as_another(tmp_path: Path, kind: str, indexed: Callable[..., Index]) -> None:
    """Of ten vectors a hundred times each, any hundred of the right ones are the best."""
    images, captions = image_and_caption_vectors(10, 10, DIMENSION, SEED)
    place = write_embeddings(tmp_path / "e", np.repeat(images, 100, axis=0), captions)
    index = indexed(Embeddings.open(str(place)), rerank_vectors=kind, factory="IVF8,SQ8", tune_k=(20,))
    assert index.manifest.measured_recall.value >= 0.9


def test_vectors_of_more_components_than_a_header_has_room_for_are_used_too(
    clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index]
) -> None:
    dataset = clustered_embeddings(60, 20, 8200, SEED)
    index = indexed(dataset, rerank_vectors="int8", factory="IVF2,SQ8", target_recall=0.5)
    assert index.search_like(7, 1)[1][0, 0] == 7


def test_the_default_may_be_named(index: Index, dataset: Embeddings) -> None:
    values = {"embeddings": dataset.location.uri, "output": "unused"}
    named, left_out = (IndexSettings.model_validate({**values, **one}) for one in ({"rerank_vectors": "float16"}, {}))
    assert named == left_out
