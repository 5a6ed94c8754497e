"""Every corruption of an index is found and named, also where lists and checksums were made to agree with it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.datasets.manifests import MANIFEST
from clipmill.storage import resolve, sha256
from wholesome import DIMENSION, edit_manifest, flip_bit, relist, swap, unit, write_list, write_whole_index

FILES = ("shard-00001.faiss", "vectors-00001.npy", "rows-00001.npy", "rows-00001.parquet")
Corruption = Callable[[Path], object]


def edit_array(folder: Path, name: str, change: Callable[[np.ndarray], object]) -> None:
    """Changes an array and everything that lists it."""
    array = np.load(folder / name)
    change(array)
    np.save(folder / name, array)
    relist(folder, name)


def edit_table(folder: Path, name: str, change: Callable[[list[dict]], object]) -> None:
    table = pq.read_table(folder / name)
    records = table.to_pylist()
    change(records)
    pq.write_table(pa.Table.from_pylist(records, schema=table.schema), folder / name)
    relist(folder, name)


def swap_rows(folder: Path) -> None:
    """Two neighbouring rows under each other's positions, in the array and in the table."""

    def swap_numbers(rows: np.ndarray) -> None:
        rows[[10, 11]] = rows[[11, 10]]

    def swap_records(records: list[dict]) -> None:
        records[10], records[11] = records[11], records[10]

    edit_array(folder, "rows-00001.npy", swap_numbers)
    edit_table(folder, "rows-00001.parquet", swap_records)


def swap_listed(folder: Path, one: str, other: str) -> None:
    swap(folder / one, folder / other)
    relist(folder, one, other)


def other_vector(vectors: np.ndarray) -> None:
    vectors[50] = unit(np.ones(DIMENSION))


def no_vector(vectors: np.ndarray) -> None:
    vectors[50] = np.nan


def short_vector(vectors: np.ndarray) -> None:
    vectors[50] /= 2


def replace_shard(folder: Path, change: Callable[[faiss.Index, np.ndarray], object]) -> None:
    """A shard filled anew by ``change`` from the trained index and the shard's vectors."""
    index = faiss.read_index(str(folder / "trained.faiss"))
    change(index, np.load(folder / "vectors-00001.npy").astype(np.float32))
    faiss.write_index(index, str(folder / "shard-00001.faiss"))
    relist(folder, "shard-00001.faiss")


def fill_doubled(index: faiss.Index, vectors: np.ndarray) -> None:
    positions = np.arange(len(vectors))
    positions[7] = 6
    index.add_with_ids(vectors, positions)


def fill_backwards(index: faiss.Index, vectors: np.ndarray) -> None:
    index.add(vectors[::-1].copy())


def fill_partly(index: faiss.Index, vectors: np.ndarray) -> None:
    index.add(vectors[:-1])


FOUND_BY_ALL: dict[str, tuple[Corruption, list[str]]] = {
    **{f"{name} missing": (lambda i, name=name: (i / name).unlink(), [name, "missing"]) for name in FILES},
    **{f"{name} cut": (lambda i, name=name: cut(i / name), [name, "cut short"]) for name in FILES},
    "an extra shard": (lambda i: shutil.copy(i / FILES[0], i / "shard-00003.faiss"), ["shard-00003", "not belong"]),
    "the trained index missing": (lambda i: (i / "trained.faiss").unlink(), ["trained.faiss is missing"]),
    "a bit of the trained index": (lambda i: flip_bit(i / "trained.faiss"), ["trained.faiss was altered"]),
    "a bit of the list": (lambda i: flip_bit(i / "shards.parquet"), ["shards.parquet", "does not belong"]),
    "a shard of another length": (
        lambda i: swap_listed(i, "shard-00000.faiss", "shard-00002.faiss"),
        ["shard-00000.faiss holds 109 vectors", "should hold 108"],
    ),
    "vectors of another length": (
        lambda i: swap_listed(i, "vectors-00000.npy", "vectors-00002.npy"),
        ["vectors-00000.npy", "(109, 16)", "(108, 16)"],
    ),
    "rows swapped": (
        lambda i: swap_unlisted_ends(i, "rows-00000.npy", "rows-00001.npy"),
        ["rows-00000.npy", "another file under this name"],
    ),
    "row tables swapped": (
        lambda i: swap_unlisted_ends(i, "rows-00000.parquet", "rows-00001.parquet"),
        ["rows-00000.parquet", "another file under this name"],
    ),
    "rows counted wrongly": (lambda i: edit_manifest(i, lambda m: m.update(n=326)), ["325 rows", "counts 326"]),
    "shards counted wrongly": (lambda i: edit_manifest(i, lambda m: m.update(shards=4)), ["3 shards", "counts 4"]),
    "another dimension": (
        lambda i: edit_manifest(i, lambda m: m.update(dimension=8)),
        ["vectors-00000.npy", "(108, 8)"],
    ),
    "an unknown column": (
        lambda i: edit_manifest(i, lambda m: m.update(kept_columns=[])),
        ["rows-00000.parquet has a column label"],
    ),
    "a damaged manifest": (lambda i: cut(i / MANIFEST), ["manifest.json", "damaged"]),
    "embeddings that were made anew": (
        lambda i: edit_manifest(i, lambda m: m.update(embeddings_manifest_sha256="0" * 64)),
        ["embeddings", "not the one that this was made from"],
    ),
}

FOUND_BY_READING_ALL: dict[str, tuple[Corruption, list[str]]] = {
    **{f"{name} flipped": (lambda i, name=name: flip_bit(i / name), [name, "altered"]) for name in FILES},
    "vectors of two shards swapped": (
        lambda i: swap_listed(i, "vectors-00000.npy", "vectors-00001.npy"),
        ["vectors-00000.npy: the vector of row 0 is not that of the embeddings"],
    ),
    "codes of two shards swapped": (
        lambda i: swap_listed(i, "shard-00000.faiss", "shard-00001.faiss"),
        ["vectors-00000.npy holds other vectors than shard-00000.faiss"],
    ),
    "one vector replaced": (
        lambda i: edit_array(i, "vectors-00001.npy", other_vector),
        ["vectors-00001.npy: the vector of row 8589934615 is not that of the embeddings"],
    ),
    "NaN": (lambda i: edit_array(i, "vectors-00001.npy", no_vector), ["vectors-00001.npy", "row 8589934615", "NaN"]),
    "half a vector": (
        lambda i: edit_array(i, "vectors-00001.npy", short_vector),
        ["vectors-00001.npy", "row 8589934615", "length 0.5"],
    ),
    "one row number": (
        lambda i: edit_array(i, "rows-00001.npy", lambda rows: rows.__setitem__(5, rows[4])),
        ["rows-00001.npy has row", "rows-00001.parquet has row"],
    ),
    "two rows swapped everywhere": (swap_rows, ["rows-00001.npy", "where the embeddings have row"]),
    "an id": (
        lambda i: edit_table(i, "rows-00001.parquet", lambda records: records[3].update(id="x")),
        ["rows-00001.parquet: id of row 124 is not that of the embeddings"],
    ),
    "a kept column": (
        lambda i: edit_table(i, "rows-00001.parquet", lambda records: records[3].update(label=None)),
        ["rows-00001.parquet: label of row 124"],
    ),
    "a position twice in a shard": (
        lambda i: replace_shard(i, fill_doubled),
        ["shard-00001.faiss", "each of its 108 positions once"],
    ),
    "a shard filled in another order": (
        lambda i: replace_shard(i, fill_backwards),
        ["vectors-00001.npy holds other vectors than shard-00001.faiss"],
    ),
}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def swap_unlisted_ends(folder: Path, one: str, other: str) -> None:
    """The list tells sizes and checksums as they are now, and the rows as they should be."""
    swap(folder / one, folder / other)
    records = {record["path"]: record for record in pq.read_table(folder / "shards.parquet").to_pylist()}
    for key in ("rows", "bytes", "sha256"):
        records[one][key], records[other][key] = records[other][key], records[one][key]
    write_list(folder, list(records.values()))


@pytest.fixture(scope="module")
def other_training(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index over the same embeddings, trained with another seed."""
    return write_whole_index(whole / "embeddings", tmp_path_factory.mktemp("other") / "index", seed=7)


@pytest.mark.parametrize("name", ["index", "captions_index"])
def test_the_index_is_whole_before_it_is_corrupted(name: str, whole: Path, check: Callable) -> None:
    findings = check(whole / name)
    assert (findings.faults, findings.notes, findings.unchecked) == ([], [], [])
    rows = 325 if name == "index" else 396
    assert findings.checked["rows compared with the embeddings"] == findings.checked["vectors"] == rows


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("name", FOUND_BY_ALL)
def test_found_by_lists_and_headers(name: str, quick: bool, index: Path, check: Callable, told: Callable) -> None:
    corrupt, words = FOUND_BY_ALL[name]
    corrupt(index)
    told(check(index, quick=quick), *words)


@pytest.mark.parametrize("name", FOUND_BY_READING_ALL)
def test_found_by_reading_every_byte(name: str, index: Path, check: Callable, told: Callable) -> None:
    corrupt, words = FOUND_BY_READING_ALL[name]
    corrupt(index)
    told(check(index), *words)


def test_a_shard_that_lacks_a_vector_is_found_by_its_header(index: Path, check: Callable, told: Callable) -> None:
    replace_shard(index, fill_partly)
    told(check(index, quick=True), "shard-00001.faiss holds 107 vectors")


def test_a_shard_of_another_training_is_named(
    index: Path, other_training: Path, check: Callable, told: Callable
) -> None:
    shutil.copy(other_training / "shard-00001.faiss", index)
    relist(index, "shard-00001.faiss")
    told(check(index), "shard-00001.faiss comes from another training")


def test_shards_that_share_a_training_but_not_that_of_the_index(
    index: Path, other_training: Path, check: Callable, told: Callable
) -> None:
    shutil.copy(other_training / "trained.faiss", index)
    digest = sha256(resolve(index / "trained.faiss"))
    edit_manifest(index, lambda manifest: manifest.update(trained_sha256=digest))
    told(check(index), "shard-00000.faiss comes from another training")


def test_without_the_embeddings_it_is_whole_with_a_note(whole: Path, index: Path, check: Callable) -> None:
    edit_manifest(index, lambda manifest: manifest.update(embeddings=str(whole / "nowhere")))
    findings = check(index)
    assert findings.whole
    assert "nowhere" in findings.notes[0]
    assert findings.unchecked == ["rows and vectors against the embeddings"]


@pytest.mark.parametrize(
    ("corrupt", "words"),
    [
        (lambda i: swap_listed(i, "vectors-00000.npy", "vectors-00001.npy"), ["vectors-00000.npy holds other vectors"]),
        (swap_rows, ["rows-00001.npy: row", "comes after a later one"]),
    ],
)
def test_without_the_embeddings_much_is_found_still(
    corrupt: Corruption, words: list[str], whole: Path, index: Path, check: Callable, told: Callable
) -> None:
    edit_manifest(index, lambda manifest: manifest.update(embeddings=str(whole / "nowhere")))
    corrupt(index)
    told(check(index), *words)


def test_embeddings_replaced_under_the_index(embeddings: Path, index: Path, check: Callable, told: Callable) -> None:
    edit_manifest(index, lambda manifest: manifest.update(embeddings=str(embeddings)))
    assert check(index).whole
    edit_manifest(embeddings, lambda manifest: manifest["configuration"].update(limit=1))
    for quick in (False, True):
        told(check(index, quick=quick), "embeddings", "not the one that this was made from")


def test_embeddings_damaged_under_the_index(embeddings: Path, index: Path, check: Callable, told: Callable) -> None:
    edit_manifest(index, lambda manifest: manifest.update(embeddings=str(embeddings)))
    (embeddings / "images/part-00002.parquet").unlink()
    told(check(index), "embeddings cannot be compared with", "images/part-00002.parquet")
