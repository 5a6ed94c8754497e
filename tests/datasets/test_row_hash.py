"""Numbers by which items are drawn follow from source file, row and caption, and from nothing else."""

from pathlib import Path

import numpy as np

from captioned import pairs, write_captioned
from clipmill.datasets.manifests import Embeddings
from clipmill.datasets.row_hash import item_keys

IMAGES, CAPTIONS, ROWS = pairs(200, 3)


def dataset(place: Path, paths: tuple[str, ...], **changes: object) -> Embeddings:
    values = {"images": IMAGES, "captions": CAPTIONS, "caption_rows": ROWS, **changes}
    return Embeddings.open(write_captioned(place, paths=paths, **values))


def test_they_are_all_different_and_evenly_spread(tmp_path: Path) -> None:
    found = dataset(tmp_path / "e", ("one",))
    for part in ("images", "captions"):
        keys = item_keys(found, part, 0)
        assert len(np.unique(keys)) == found.count(part) == len(keys)
        assert np.histogram(keys / 2**64, 4, (0, 1))[0].min() > len(keys) / 4 * 0.7


def test_the_place_of_a_file_in_the_list_does_not_matter_but_its_path_does(tmp_path: Path) -> None:
    second = [(1 << 32) + row for row in range(200)]
    one = dataset(tmp_path / "one", ("a", "b"), image_rows=second, caption_rows=[second[row] for row in ROWS])
    other = dataset(tmp_path / "other", ("b",))
    for part in ("images", "captions"):
        assert np.array_equal(item_keys(one, part, 3), item_keys(other, part, 3))
        assert not np.any(item_keys(other, part, 3) == item_keys(dataset(tmp_path / part, ("c",)), part, 3))


def test_another_seed_gives_another_order(tmp_path: Path) -> None:
    found = dataset(tmp_path / "e", ("one",))
    orders = [np.argsort(item_keys(found, "captions", seed)) for seed in (0, 1)]
    assert abs(np.corrcoef(np.argsort(orders[0]), np.argsort(orders[1]))[0, 1]) < 0.15


def test_a_part_without_items_has_none(tmp_path: Path) -> None:
    found = dataset(tmp_path / "e", ("one",), captions=CAPTIONS[:0], caption_rows=[])
    assert len(item_keys(found, "captions", 0)) == 0
