"""A merged index is the one that a build of one shard makes, and nothing is merged that FAISS would corrupt."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.schemas import IndexManifest
from clipmill.datasets.manifests import (
    Embeddings,
    describe_shard,
    read_manifest,
    read_shards,
    write_manifest,
    write_shards,
)
from clipmill.index.build.footprint import measured_footprint
from clipmill.index.build.merge import refuse_unmergeable
from clipmill.index.search.open import open_index
from clipmill.index.search.search import Index
from clipmill.storage.s3 import client as s3_client
from clipmill_jobs.index import command
from clipmill_jobs.verify import command as verify
from clustered import image_and_caption_vectors, write_embeddings
from faulty_s3 import BUCKET, FaultyS3

Indexed = Callable[..., Index]
ROWS = 3000
PLAIN = ["IVF16,SQ8", "IVF16,PQ8x4", "PCAR8,IVF16,SQ8", "OPQ2_8,IVF16,PQ2x4", "IVF16,Flat"]


def folder_of(index: Index) -> Path:
    return Path(index.table.paths[0]).parent


def merge(index: Path, output: Path, *more: str) -> Result:
    return CliRunner().invoke(command, ["--merge", str(index), "--output", str(output), *more])


def manifest_of(index: Path) -> dict[str, Any]:
    return dict(json.loads((index / "manifest.json").read_text()))


def queries(count: int = 40) -> np.ndarray:
    return image_and_caption_vectors(count, count, 16, seed=9)[1].astype(np.float32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    folder = tmp_path_factory.mktemp("embeddings")
    labels = [f"label {row % 7}" for row in range(ROWS)]
    vectors = image_and_caption_vectors(ROWS, 60, 16, seed=0)
    return Embeddings.open(str(write_embeddings(folder, *vectors, labels=labels)))


@pytest.fixture(scope="module")
def sharded(dataset: Embeddings, indexed: Indexed) -> Callable[..., Path]:
    """Makes an index of three shards, once for each kind."""
    made: dict[tuple[str, int], Path] = {}

    def make(factory: str, seed: int = 0) -> Path:
        if (factory, seed) not in made:
            index = indexed(dataset, factory=factory, shards=3, seed=seed, target_recall=0.5, tuning_queries=20)
            made[factory, seed] = folder_of(index)
        return made[factory, seed]

    return make


@pytest.fixture
def index(sharded: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(sharded("IVF16,SQ8"), tmp_path / "index"))


@pytest.mark.parametrize("factory", PLAIN)
def test_the_merged_files_are_those_of_a_build_of_one_shard(
    dataset: Embeddings, indexed: Indexed, sharded: Callable[..., Path], tmp_path: Path, factory: str
) -> None:
    """To the byte: FAISS wrote those of the build, from memory."""
    done = merge(sharded(factory), tmp_path / "merged")
    assert done.exit_code == 0, done.output
    built = folder_of(indexed(dataset, factory=factory, shards=1, target_recall=0.5, tuning_queries=20))
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {path.name for path in built.iterdir()}
    for name in ("trained.faiss", "shard-00000.faiss", "vectors-00000.npy", "rows-00000.npy"):
        assert (tmp_path / "merged" / name).read_bytes() == (built / name).read_bytes(), name
    table, other = (pq.read_table(folder / "rows-00000.parquet") for folder in (tmp_path / "merged", built))
    assert table.equals(other)
    assert table.column_names == ["row", "id", "label"]


@pytest.mark.parametrize("factory", PLAIN)
def test_merged_and_sharded_find_the_same(sharded: Callable[..., Path], tmp_path: Path, factory: str) -> None:
    assert merge(sharded(factory), tmp_path / "merged").exit_code == 0
    one, three = open_index(str(tmp_path / "merged")), open_index(str(sharded(factory)))
    assert (len(one.sharded.shards), len(three.sharded.shards)) == (1, 3)
    approximate = [index.search(queries(), 50, nprobe=5, rerank=0)[0] for index in (one, three)]
    np.testing.assert_allclose(*approximate, rtol=1e-5, atol=1e-6)
    (scores, found), (other_scores, other_found) = (
        index.search(queries(), 10, nprobe=16, rerank=ROWS) for index in (one, three)
    )
    np.testing.assert_allclose(scores, other_scores, rtol=1e-6)
    np.testing.assert_array_equal(found, other_found)
    np.testing.assert_array_equal(one.rows_at(found), three.rows_at(other_found))
    assert one.table.fetch(found[0]).equals(three.table.fetch(found[0]))


def test_lists_that_are_mostly_empty_are_merged_as_well(
    tmp_path: Path, indexed: Indexed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """FAISS writes the sizes of such lists in another way."""
    few, _ = image_and_caption_vectors(12, 12, 16, seed=3)
    vectors = few[np.arange(640) % 12]
    folder = write_embeddings(tmp_path_factory.mktemp("embeddings"), vectors, vectors[:0])
    options = {"factory": "IVF64,Flat", "target_recall": 0.5, "tuning_queries": 5}
    three, one = (folder_of(indexed(Embeddings.open(str(folder)), shards=shards, **options)) for shards in (3, 1))
    assert merge(three, tmp_path / "merged").exit_code == 0
    data = (tmp_path / "merged/shard-00000.faiss").read_bytes()
    assert b"sprs" in data
    assert data == (one / "shard-00000.faiss").read_bytes()


def test_the_merged_index_is_one_file_that_can_be_mapped_wherever_it_is(index: Path, tmp_path: Path) -> None:
    assert merge(index, tmp_path / "merged").exit_code == 0
    expected = open_index(str(index)).search(queries(), 10, nprobe=16, rerank=0)[0]
    shutil.move(tmp_path / "merged", tmp_path / "elsewhere")
    shutil.rmtree(index)
    mapped = faiss.read_index(str(tmp_path / "elsewhere/shard-00000.faiss"), faiss.IO_FLAG_MMAP)
    assert type(faiss.downcast_InvertedLists(mapped.invlists)) is faiss.OnDiskInvertedLists
    assert mapped.ntotal == mapped.invlists.compute_ntotal() == ROWS
    mapped.nprobe = 16
    np.testing.assert_allclose(mapped.search(queries(), 10)[0], expected, rtol=1e-5)


def test_the_manifest_keeps_what_was_measured_and_says_what_was_merged(index: Path, tmp_path: Path) -> None:
    done = merge(index, tmp_path / "merged", "--json")
    assert done.exit_code == 0
    before, after = manifest_of(index), manifest_of(tmp_path / "merged")
    assert {"output": str(tmp_path / "merged"), "already_complete": False, **after} == json.loads(done.stdout)
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {"shards", "shards_sha256", "configuration", "runs", "stage_seconds"}
    assert after["shards"] == after["configuration"]["shards"] == 1
    assert after["configuration"]["merged_from"] == storage.sha256(storage.resolve(index / "manifest.json"))
    assert after["runs"][:-1] == before["runs"]
    assert (after["runs"][-1]["rows_encoded"], after["runs"][-1]["rows_reused"]) == (0, ROWS)
    assert after["stage_seconds"].keys() - before["stage_seconds"].keys() == {"merge"}
    merged = faiss.read_index(str(tmp_path / "merged/shard-00000.faiss"))
    assert after["memory"] == measured_footprint(merged).as_dict()


@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_verify_says_whole(index: Path, tmp_path: Path, quick: list[str]) -> None:
    assert merge(index, tmp_path / "merged").exit_code == 0
    done = CliRunner().invoke(verify, [str(tmp_path / "merged"), *quick])
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'merged'}: whole (4 files, {ROWS:,} rows" in done.stdout


@pytest.mark.parametrize("factory", ["IVF16,PQ8x4fs", "IVF16,PQ8x4fsr", "Flat", "SQ8", "PQ8x4", "IVF16,RQ2x4"])
def test_what_is_no_plain_list_is_refused_by_name(sharded: Callable[..., Path], tmp_path: Path, factory: str) -> None:
    done = merge(sharded(factory), tmp_path / "merged")
    assert done.exit_code == 2
    assert f"{factory} cannot be merged" in done.stderr
    assert "--shards 1" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "factory", ["IDMap2,IVF16,SQ8", "IVF16,RaBitQfs", "IVF16,RaBitQ", "IVF16,SQ8,RFlat", "PQ4x4fs"]
)
def test_what_faiss_would_corrupt_is_refused(factory: str) -> None:
    with pytest.raises(UserError, match=f"{factory} cannot be merged"):
        refuse_unmergeable(factory, faiss.index_factory(16, factory, faiss.METRIC_INNER_PRODUCT))


@pytest.mark.parametrize(
    "name", ["trained.faiss", "shard-00001.faiss", "vectors-00001.npy", "rows-00002.npy", "rows-00001.parquet"]
)
def test_an_altered_file_is_refused(index: Path, tmp_path: Path, name: str) -> None:
    data = bytearray((index / name).read_bytes())
    data[len(data) // 2] ^= 1
    (index / name).write_bytes(data)
    done = merge(index, tmp_path / "merged")
    assert done.exit_code == 1
    assert f"{name} was altered" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_shards_of_different_trainings_are_refused(index: Path, sharded: Callable[..., Path], tmp_path: Path) -> None:
    """Also where the list of files was made to agree, as a careless repair would."""
    shutil.copy(sharded("IVF16,SQ8", seed=1) / "shard-00001.faiss", index / "shard-00001.faiss")
    location = storage.resolve(index)
    manifest = read_manifest(location, IndexManifest)
    files = [
        describe_shard(location, file.path, file.part, file.rows, file.first_row, file.last_row)
        for file in read_shards(location, manifest.shards_sha256)
    ]
    write_manifest(location, manifest.model_copy(update={"shards_sha256": write_shards(location, files)}))
    done = merge(index, tmp_path / "merged")
    assert done.exit_code == 1
    assert "shard-00001.faiss comes from another training" in done.stderr
    assert not (tmp_path / "merged").exists()


def test_the_same_merge_is_already_complete_and_another_replaces_only_when_told(
    index: Path, sharded: Callable[..., Path], tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    assert merge(index, merged).exit_code == 0
    before = (merged / "manifest.json").read_bytes()
    again = merge(index, merged)
    assert again.exit_code == 0
    assert f"{merged} is already complete" in again.stdout
    other = merge(sharded("IVF16,Flat"), merged)
    assert other.exit_code == 2
    assert "was not merged from" in other.stderr
    assert "--overwrite" in other.stderr
    assert (merged / "manifest.json").read_bytes() == before
    replaced = merge(sharded("IVF16,Flat"), merged, "--overwrite")
    assert replaced.exit_code == 0
    assert manifest_of(merged)["factory"] == "IVF16,Flat"
    assert {path.name for path in tmp_path.iterdir()} == {"index", "merged"}


def test_a_built_index_is_not_taken_for_a_merge(index: Path, sharded: Callable[..., Path]) -> None:
    done = merge(sharded("IVF16,Flat"), index)
    assert done.exit_code == 2
    assert "already complete, but with a difference" in done.stderr


def test_what_has_one_shard_or_is_merged_into_itself_is_refused(index: Path, tmp_path: Path) -> None:
    for output in (index, index / "merged"):
        done = merge(index, output, "--overwrite")
        assert done.exit_code == 2
        assert "lies in the index that is merged" in done.stderr
    assert merge(index, tmp_path / "merged").exit_code == 0
    done = merge(tmp_path / "merged", tmp_path / "again")
    assert done.exit_code == 2
    assert "nothing to merge" in done.stderr


def test_merge_and_embeddings_exclude_each_other_and_one_is_needed(index: Path, tmp_path: Path) -> None:
    both = merge(index, tmp_path / "merged", "--embeddings", "somewhere")
    assert both.exit_code == 2
    assert "--merge cannot be combined with --embeddings" in both.stderr
    neither = CliRunner().invoke(command, ["--output", str(tmp_path / "merged")])
    assert neither.exit_code == 2
    assert "give --embeddings" in neither.stderr
    assert "--merge" in neither.stderr
    tuned = merge(index, tmp_path / "merged", "--factory", "Flat", "-k", "5")
    assert tuned.exit_code == 2
    assert "--factory, -k" in tuned.stderr
    assert not (tmp_path / "merged").exists()


def test_a_merge_that_failed_leaves_nothing_in_the_place_and_is_made_again(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RunFailed("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("clipmill.index.build.merge._refuse_unreadable", fail)
        done = merge(index, tmp_path / "merged")
        assert done.exit_code == 1
        assert "the disk is full" in done.stderr
        assert not (tmp_path / "merged").exists()
    assert merge(index, tmp_path / "merged").exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"index", "merged"}
    assert [run["finished"] is None for run in manifest_of(tmp_path / "merged")["runs"]] == [False, True, False]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    with FaultyS3() as running:
        for name, value in {**running.environment, "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        s3_client.forget()
        yield running
        s3_client.forget()


def test_an_index_on_s3_is_merged_there(store: FaultyS3, sharded: Callable[..., Path], tmp_path: Path) -> None:
    for path in sharded("IVF16,SQ8").iterdir():
        store.client.upload_file(str(path), BUCKET, f"index/{path.name}")
    done = CliRunner().invoke(command, ["--merge", f"s3://{BUCKET}/index", "--output", f"s3://{BUCKET}/merged"])
    assert done.exit_code == 0, done.stderr
    assert merge(sharded("IVF16,SQ8"), tmp_path / "merged").exit_code == 0
    made = {key.removeprefix("merged/") for key in store.listed() if not key.startswith("index/")}
    assert made == {path.name for path in (tmp_path / "merged").iterdir()}
    found = store.client.get_object(Bucket=BUCKET, Key="merged/shard-00000.faiss")["Body"].read()
    assert found == (tmp_path / "merged/shard-00000.faiss").read_bytes()
