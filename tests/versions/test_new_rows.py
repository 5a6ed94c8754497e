"""New rows are those that the older index does not have, and their recall is that of their own captions."""

from pathlib import Path

import numpy as np
import pytest

from captioned import pairs, write_captioned
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.build import make_build
from clipmill.index.build.gallery import Gallery
from clipmill.storage import resolve
from clipmill.versions.new_rows import new_rows, recall_of_new, rows_in
from indexing import build_here

IMAGES, CAPTIONS, ROWS = pairs(900, 2, noise=2.0)
OLD = np.sort(np.r_[np.arange(0, 600), (1 << 32) + np.arange(100, 300, 2)])
NOW = np.sort(np.r_[np.arange(50, 620), (1 << 32) + np.arange(100, 300), (2 << 32) + np.arange(10)])


def written(folder: Path, rows: np.ndarray) -> str:
    """Images of these rows, of which every other one has two captions."""
    number = np.arange(len(rows))
    said = np.flatnonzero(len(rows) > ROWS)
    said = said[ROWS[said] % 2 == 0]
    captions = {"captions": CAPTIONS[said], "caption_rows": rows[ROWS[said]].tolist()}
    return write_captioned(folder, IMAGES[number], image_rows=rows.tolist(), **captions)


def index_of(embeddings: str, output: Path, gallery: str) -> None:
    settings = {"factory": "IVF32,SQ8", "gallery": gallery, "target_recall": 0.5, "tuning_queries": 100, "shards": 3}
    build_here(make_build(IndexSettings(embeddings=embeddings, output=str(output), **settings)))


@pytest.mark.parametrize("gallery", ["images", "captions"])
def test_new_rows_are_found_and_asked_for(tmp_path: Path, gallery: str) -> None:
    index_of(written(tmp_path / "old", OLD), tmp_path / "old-index", gallery)
    place = written(tmp_path / "now", NOW)
    index_of(place, tmp_path / "index", gallery)
    dataset = Embeddings.open(place)
    searched = Gallery(dataset, gallery)
    new, old = new_rows(searched, resolve(tmp_path / "old-index"))
    rows = dataset.table(gallery, ["row"]).column("row").to_numpy()
    before = Embeddings.open(str(tmp_path / "old")).table(gallery, ["row"]).column("row").to_numpy()
    assert sorted(set(rows_in(searched, new).tolist())) == sorted(set(rows.tolist()) - set(before.tolist()))
    assert sorted([*rows_in(searched, new), *rows_in(searched, old)]) == sorted(rows.tolist())
    found = recall_of_new(dataset, resolve(tmp_path / "index"), resolve(tmp_path / "old-index"), tmp_path / "cache", 0)
    assert found is not None
    other = dataset.table("captions" if gallery == "images" else "images", ["row"]).column("row").to_numpy()
    assert found.n == min(1000, int(np.isin(other, rows_in(searched, new)).sum()))
    assert 0.4 < found.value <= 1


def test_nothing_new_has_no_recall(tmp_path: Path) -> None:
    place = written(tmp_path / "old", OLD)
    index_of(place, tmp_path / "i", "images")
    same = resolve(tmp_path / "i")
    assert new_rows(Gallery(Embeddings.open(place), "images"), same)[0] == []
    assert recall_of_new(Embeddings.open(place), same, same, tmp_path / "cache", 0) is None
