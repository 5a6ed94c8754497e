"""A shard that is searched and re-ranked in one step finds what searching, gathering and scoring by hand finds."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from clipmill.index.build.fill import write_npy_header
from clipmill.index.search.refined import Refined, header_bytes
from clipmill.index.stored import Coding, ranges_of
from clustered import image_and_caption_vectors

N, DIMENSION = 2000, 32
IMAGES, CAPTIONS = image_and_caption_vectors(N, 40, DIMENSION, seed=5)
QUERIES = CAPTIONS.astype(np.float32)
AS_EMBEDDED = Coding(DIMENSION)


@pytest.fixture
def shard() -> faiss.Index:
    index = faiss.index_factory(DIMENSION, "IVF16,PQ8x4fsr", faiss.METRIC_INNER_PRODUCT)
    index.train(IMAGES.astype(np.float32))
    index.add(IMAGES.astype(np.float32))
    return index


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    np.save(tmp_path / "vectors.npy", IMAGES)
    return np.load(tmp_path / "vectors.npy", mmap_mode="c")


def by_hand(shard: faiss.Index, k: int, nprobe: int, depth: int, chosen: np.ndarray | None = None) -> np.ndarray:
    sel = {} if chosen is None else {"sel": faiss.IDSelectorBatch(chosen)}
    _, found = shard.search(QUERIES, depth, params=faiss.SearchParametersIVF(nprobe=nprobe, **sel))
    scores = np.einsum("qd,qcd->qc", QUERIES, IMAGES[np.maximum(found, 0)].astype(np.float32))
    scores[found < 0] = -np.inf
    return np.take_along_axis(found, np.argsort(-scores, axis=1)[:, :k], axis=1)


@pytest.mark.parametrize(("k", "nprobe", "depth"), [(1, 1, 1), (10, 4, 10), (10, 4, 43), (7, 16, 100), (100, 3, 100)])
def test_the_best_by_exact_score_of_the_best_by_code(
    shard: faiss.Index, mapped: np.ndarray, k: int, nprobe: int, depth: int
) -> None:
    refined = Refined(shard, mapped, AS_EMBEDDED)
    scores, positions = refined.search(QUERIES, k, nprobe, depth)
    assert np.array_equal(np.sort(positions, axis=1), np.sort(by_hand(shard, k, nprobe, depth), axis=1))
    assert (np.diff(np.where(positions >= 0, scores, -1.0), axis=1) <= 0).all()
    exact = np.einsum("qd,qkd->qk", QUERIES, IMAGES[np.maximum(positions, 0)].astype(np.float32))
    np.testing.assert_allclose(scores[positions >= 0], exact[positions >= 0], atol=1e-5)
    again = refined.search(QUERIES, k, nprobe, depth)
    assert np.array_equal(positions, again[1])


def test_a_selection_is_kept_and_what_is_missing_is_said(shard: faiss.Index, mapped: np.ndarray) -> None:
    refined = Refined(shard, mapped, AS_EMBEDDED)
    chosen = np.array([3, 50, 51, 700, 1999])
    allowed = np.zeros(N, bool)
    allowed[chosen] = True
    scores, positions = refined.search(QUERIES, 8, 16, 20, np.packbits(allowed, bitorder="little"))
    assert np.array_equal(positions[:, :5], by_hand(shard, 5, 16, 20, chosen))
    assert (positions[:, 5:] == -1).all()
    assert np.isneginf(scores[:, 5:]).all()
    unselected = refined.search(QUERIES, 8, 16, 20)[1]
    assert np.array_equal(unselected, by_hand(shard, 8, 16, 20))


def test_rows_of_equal_score_come_in_order_of_position(tmp_path: Path) -> None:
    images = IMAGES.copy()
    images[100] = images[1500] = images[7]
    np.save(tmp_path / "vectors.npy", images)
    index = faiss.index_factory(DIMENSION, "IVF4,PQ16x4fsr", faiss.METRIC_INNER_PRODUCT)
    index.train(images.astype(np.float32))
    index.add(images.astype(np.float32))
    refined = Refined(index, np.load(tmp_path / "vectors.npy", mmap_mode="c"), AS_EMBEDDED)
    assert refined.search(images[7:8].astype(np.float32), 3, 4, 50)[1].tolist() == [[7, 100, 1500]]


def test_the_file_is_never_written_to(shard: faiss.Index, mapped: np.ndarray) -> None:
    before = Path(mapped.filename).read_bytes()
    refined = Refined(shard, mapped, AS_EMBEDDED)
    refined.search(QUERIES, 10, 4, 40)
    assert Path(mapped.filename).read_bytes() == before


def test_vectors_that_are_not_mapped_copy_on_write_are_found_as_well(shard: faiss.Index, mapped: np.ndarray) -> None:
    expected = Refined(shard, mapped, AS_EMBEDDED).search(QUERIES, 10, 4, 40)
    for vectors in (IMAGES, np.load(mapped.filename, mmap_mode="r")):
        found = Refined(shard, vectors, AS_EMBEDDED).search(QUERIES, 10, 4, 40)
        assert np.array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


def test_bytes_of_vectors_are_scored_by_what_they_stand_for_and_used_where_they_are_mapped(
    shard: faiss.Index, tmp_path: Path
) -> None:
    coding = Coding(DIMENSION, ranges_of(IMAGES))
    with (tmp_path / "vectors.npy").open("wb") as file:
        write_npy_header(file, coding.dtype, (N, DIMENSION), header_bytes(coding))
        file.write(coding.encode(IMAGES).tobytes())
    before = (tmp_path / "vectors.npy").read_bytes()
    stored = np.load(tmp_path / "vectors.npy", mmap_mode="c")
    scores, positions = Refined(shard, stored, coding).search(QUERIES, 10, 4, 40)
    low, width = coding.ranges
    meant = low + (np.asarray(stored, np.float32) + 0.5) / 255 * width
    expected = np.einsum("qd,qkd->qk", QUERIES, meant[np.maximum(positions, 0)])
    np.testing.assert_allclose(scores[positions >= 0], expected[positions >= 0], atol=1e-5)
    start = before.index(b"\n") + 1
    assert bytes(stored._mmap[:start]) != before[:start]  # this process has FAISS's header there
    copied = Refined(shard, np.array(stored), coding).search(QUERIES, 10, 4, 40)
    np.testing.assert_array_equal(copied[1], positions)
    assert (tmp_path / "vectors.npy").read_bytes() == before
