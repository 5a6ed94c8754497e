"""No file of an index is used before it is known to belong to it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from clipmill import storage
from clipmill.core.errors import ClipmillError, RunFailed, UserError
from clipmill.core.manifests import IndexManifest
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings, read_manifest, write_manifest
from clipmill.datasets.shards import describe_shard, read_shards, write_shards
from clipmill.index.build.build import make_build
from clipmill.index.search.open import open_index
from clipmill.index.search.search import Index


@pytest.fixture(scope="module")
def two(clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index]) -> list[Path]:
    """Folders of two indices over the same vectors from different trainings."""
    dataset = clustered_embeddings(4000, 60)
    settings = {"factory": "IVF16,PQ8x4fsr", "shards": 2, "target_recall": 0.5}
    opened = [indexed(dataset, seed=seed, **settings) for seed in (0, 1)]
    return [Path(index.table.paths[0]).parent for index in opened]


@pytest.fixture
def index(two: list[Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(two[0], tmp_path / "index"))


def relist(index: Path) -> None:
    """Makes the lists and the manifest agree with whatever files there are, as a careless repair would."""
    location = storage.resolve(index)
    manifest = read_manifest(location, IndexManifest)
    shards = [
        describe_shard(location, shard.path, shard.part, shard.rows, shard.first_row, shard.last_row)
        for shard in read_shards(location, manifest.shards_sha256)
    ]
    write_manifest(location, manifest.model_copy(update={"shards_sha256": write_shards(location, shards)}))


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_an_untouched_copy_opens(index: Path) -> None:
    assert open_index(str(index)).n == 4000


@pytest.mark.parametrize("name", ["trained.faiss", "shard-00001.faiss"])
def test_an_altered_faiss_file_is_not_read(index: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_a_byte(index / name)
    read: list[str] = []
    real = faiss.read_index
    monkeypatch.setattr(faiss, "read_index", lambda path: (read.append(path), real(path))[1])
    with pytest.raises(RunFailed, match=f"{name} was altered"):
        open_index(str(index))
    assert not any(path.endswith(name) for path in read)


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("shards.parquet", False, "is missing"),
        ("shards.parquet", True, "is a folder"),
        ("manifest.json", False, "has no manifest.json"),
        ("manifest.json", True, "has no manifest.json"),
    ],
)
def test_a_missing_list_or_manifest_is_told_when_opened_and_when_built_again(
    index: Path, name: str, folder: bool, message: str
) -> None:
    manifest = read_manifest(storage.resolve(index), IndexManifest)
    again = {key: value for key, value in manifest.configuration.items() if key in IndexSettings.model_fields}
    again |= {"embeddings": manifest.embeddings, "output": str(index)}
    work = make_build(IndexSettings.model_validate(again))
    assert work.finished() == manifest
    (index / name).unlink()
    if folder:
        (index / name).mkdir()
    with pytest.raises(ClipmillError, match=message):
        open_index(str(index))
    with pytest.raises(ClipmillError, match=message if name == "shards.parquet" else "has other files in it"):
        work.finished()


def test_a_shard_from_another_training_is_refused(index: Path, two: list[Path]) -> None:
    shutil.copy(two[1] / "shard-00001.faiss", index / "shard-00001.faiss")
    with pytest.raises(RunFailed, match=r"shard-00001\.faiss"):
        open_index(str(index))
    relist(index)
    with pytest.raises(RunFailed, match="another training"):
        open_index(str(index))


def test_an_altered_list_of_files_is_refused(index: Path) -> None:
    flip_a_byte(index / "shards.parquet")
    with pytest.raises(RunFailed, match="does not belong to the manifest"):
        open_index(str(index))


@pytest.mark.parametrize("name", ["vectors-00000.npy", "rows-00001.npy", "rows-00000.parquet", "shard-00000.faiss"])
def test_a_file_cut_short_or_missing_is_refused(index: Path, name: str) -> None:
    data = (index / name).read_bytes()
    (index / name).write_bytes(data[:-10])
    with pytest.raises(RunFailed, match="cut short"):
        open_index(str(index))
    (index / name).unlink()
    with pytest.raises(RunFailed, match="missing"):
        open_index(str(index))


def test_rows_of_another_shard_are_refused(index: Path) -> None:
    shutil.copy(index / "rows-00001.npy", index / "rows-00000.npy")
    with pytest.raises(RunFailed, match="another shard"):
        open_index(str(index))


def test_vectors_of_another_shard_are_refused(index: Path) -> None:
    shutil.copy(index / "vectors-00001.npy", index / "vectors-00000.npy")
    with pytest.raises(RunFailed, match="other vectors"):
        open_index(str(index))


def test_what_is_no_index_is_refused(tmp_path: Path, index: Path) -> None:
    with pytest.raises(UserError, match="clipmill index"):
        open_index(str(tmp_path / "nothing"))
    manifest = index / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(UserError, match="newer clipmill"):
        open_index(str(index))


def test_shards_share_one_copy_of_the_centroids_and_search_as_before(index: Path) -> None:
    opened = open_index(str(index))
    quantizers = {int(faiss.try_extract_index_ivf(shard).quantizer.this) for shard in opened.sharded.shards}
    assert len(quantizers) == 1
    queries = opened.vectors_at(np.arange(20))
    for shard, start in zip(opened.sharded.shards, opened.sharded.vectors.starts, strict=False):
        alone = faiss.read_index(str(index / f"shard-{int(start > 0):05d}.faiss"))
        alone.nprobe = faiss.try_extract_index_ivf(shard).nprobe = 4
        np.testing.assert_array_equal(alone.search(queries, 5)[0], shard.search(queries, 5)[0])
