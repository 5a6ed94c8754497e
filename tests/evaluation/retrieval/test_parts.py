"""Ranks counted in pieces, over parts of the gallery that are read from the dataset, are those of one go."""

from pathlib import Path

import numpy as np
import pytest

from captioned import pairs, write_captioned
from clipmill.core.errors import RunFailed
from clipmill.core.gpus import FAKE_GPUS
from clipmill.datasets.manifests import Embeddings
from clipmill.engine.here import Here
from clipmill.evaluation.retrieval import piece as pieces
from clipmill.evaluation.retrieval.parts import InParts
from clipmill.evaluation.retrieval.piece import MOST_PIECES, cut_pieces
from clipmill.evaluation.retrieval.ranks import Ranks, rank_positives
from clipmill.evaluation.vectors import Vectors
from clipmill.storage import resolve

IMAGES, CAPTIONS, ROWS = pairs(50, 3, noise=2.0)


@pytest.fixture
def dataset(tmp_path: Path) -> Embeddings:
    return Embeddings.open(write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_QUERIES", 40)
    monkeypatch.setattr(pieces, "PIECE_PRODUCTS", 1)
    monkeypatch.setattr(pieces, "GALLERY_BLOCK", 7)


def ranked(dataset: Embeddings, folder: Path, told: list[int] | None = None) -> Ranks:
    sides = Vectors(ROWS, CAPTIONS), Vectors(np.arange(50), IMAGES)
    progress = told.append if told is not None else lambda done: None
    return InParts(dataset, resolve(folder), lambda: Here(1))("t2i", *sides, np.arange(5, 150), progress)


def test_they_are_those_of_one_go(dataset: Embeddings, tmp_path: Path) -> None:
    whole = rank_positives(Vectors(ROWS, CAPTIONS), Vectors(np.arange(50), IMAGES), np.arange(5, 150))
    told: list[int] = []
    found = ranked(dataset, tmp_path / "parts", told)
    for name in ("rows", "positions", "score", "best", "level_higher", "level_items", "level_positives"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    scores = CAPTIONS.astype(float) @ IMAGES.astype(float).T
    own = scores[np.arange(150), ROWS]
    assert np.array_equal(found.higher, np.sum(scores > own[:, None], axis=1)[5:])
    assert sum(told) == 145


def test_what_was_counted_is_not_counted_again(
    dataset: Embeddings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ranked(dataset, tmp_path / "parts")
    kept = sorted((tmp_path / "parts").glob("counts-*.npz"))
    assert len(kept) == 4 * 8
    kept[3].unlink()
    read: list[int] = []
    original = pieces.read_part
    monkeypatch.setattr(pieces, "read_part", lambda *asked: (read.append(asked[1]), original(*asked))[1])
    told: list[int] = []
    again = ranked(dataset, tmp_path / "parts", told)
    assert len(read) == 1
    assert sum(told) == 145
    assert np.array_equal(first.level_higher, again.level_higher)


def test_no_engine_is_begun_where_all_was_counted(dataset: Embeddings, tmp_path: Path) -> None:
    first = ranked(dataset, tmp_path / "parts")

    def none_needed() -> Here:
        raise AssertionError("everything was counted before")

    sides = Vectors(ROWS, CAPTIONS), Vectors(np.arange(50), IMAGES)
    again = InParts(dataset, resolve(tmp_path / "parts"), none_needed)(
        "t2i", *sides, np.arange(5, 150), lambda done: None
    )
    assert np.array_equal(first.level_higher, again.level_higher)


def test_a_damaged_piece_is_counted_again(dataset: Embeddings, tmp_path: Path) -> None:
    first = ranked(dataset, tmp_path / "parts")
    next((tmp_path / "parts").glob("counts-*.npz")).write_bytes(b"cut short")
    assert np.array_equal(ranked(dataset, tmp_path / "parts").level_higher, first.level_higher)


def test_a_piece_without_its_queries_says_what_to_do(dataset: Embeddings, tmp_path: Path) -> None:
    piece = cut_pieces("t2i", 10, 10, 16)[0]
    with pytest.raises(RunFailed, match="run the same command again"):
        pieces.count_piece(lambda: None, dataset, resolve(tmp_path), piece, 1)


@pytest.mark.parametrize(("queries", "gallery"), [(1, 1), (100, 50), (1000, 3_000), (100_000, 999_999)])
def test_pieces_cover_every_pair_once(queries: int, gallery: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_QUERIES", 131_072 // 4)
    monkeypatch.setattr(pieces, "PIECE_PRODUCTS", 2_000_000_000)
    monkeypatch.setattr(pieces, "GALLERY_BLOCK", 64)
    cut = cut_pieces("t2i", queries, gallery, 64)
    assert sum(piece.products for piece in cut) == queries * gallery
    assert len({(piece.first, piece.start) for piece in cut}) == len(cut) <= MOST_PIECES * 1.1
    assert {piece.last for piece in cut if piece.start == 0} >= {queries}


@pytest.mark.parametrize("noise", [0.3, 2.0, 40.0])
def test_on_a_gpu_counts_are_the_same(noise: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAKE_GPUS, "1")
    images, captions, rows = pairs(60, 2, noise=noise)
    images[40:50] = images[7]  # ties
    captions[80:90] = captions[3]
    dataset = Embeddings.open(write_captioned(tmp_path / "e", images, captions, rows))
    sides = Vectors(rows, captions), Vectors(np.arange(60), images)
    found = InParts(dataset, resolve(tmp_path / "parts"), lambda: Here(1), "gpu")
    for direction, (queries, gallery) in (("t2i", sides), ("i2t", sides[::-1])):
        ranks = found(direction, queries, gallery, np.arange(len(queries)), lambda done: None)  # type: ignore[arg-type]
        whole = rank_positives(queries, gallery)
        for name in ("level_higher", "level_items", "level_positives"):
            assert np.array_equal(getattr(ranks, name), getattr(whole, name)), (direction, name)
