"""What a dataset says of its own files is believed only where we can have written it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.manifests import EmbeddingsManifest, SourceManifest
from clipmill.core.schemas import SHARDS
from clipmill.datasets.manifests import Embeddings, read_manifest
from clipmill.datasets.shards import SHARDS_FILE, read_shards, shards_of_records
from clipmill.stage import publication
from clipmill.storage import staging_of
from clipmill.versions.place import Place
from clipmill.versions.pointer import read_pointer
from clipmill.versions.unfinished import begin, read_unfinished
from clipmill.versions.version import read_version
from wholesome import edit_manifest, write_whole_embeddings

OUTSIDE = [
    "../victim",
    "images/../../victim",
    "/etc/passwd",
    "images//part-0.parquet",
    "./images/part-0.parquet",
    "..",
    "images/..",
    "",
    "images/",
    "s3://bucket/part-0.parquet",
    "images\\..\\victim",
    "images/part\n",
    "images/.hidden",
    "~/victim",
]
NO_DIGESTS = ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "../" * 21 + "a", "0" * 64 + "\n"]

ALTERED = [
    *({"path": path} for path in OUTSIDE),
    *({"version": name} for name in (*OUTSIDE, "a/b")),
    *({"sha256": digest} for digest in NO_DIGESTS),
]


def record(**changes: Any) -> dict[str, Any]:
    whole = {"part": "images", "path": "images/part-00000.parquet", "rows": 1, "bytes": 1, "sha256": "0" * 64}
    return {**whole, "first_row": 0, "last_row": 0, **changes}


@pytest.mark.parametrize("changes", ALTERED)
def test_a_list_of_files_that_leads_out_of_its_dataset_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    place = storage.resolve(tmp_path)
    shards_of_records([record()], place)
    pq.write_table(pa.Table.from_pylist([record(), record(**changes)], SHARDS), tmp_path / SHARDS_FILE)
    with pytest.raises(RunFailed, match=rf"{SHARDS_FILE} is none that we wrote: 1\.{next(iter(changes))} cannot be"):
        read_shards(place, storage.sha256(place / SHARDS_FILE))


def test_a_file_of_another_version_lies_in_the_same_dataset_beside(tmp_path: Path) -> None:
    (file,) = shards_of_records([record(version="20261126T030000Z-0f3a9c21")], storage.resolve(tmp_path))
    published = storage.resolve("s3://bucket/place/runs/20261130T030000Z-77aa0b1c/embeddings")
    staged = storage.staging_of(published) / "0123abcd" / "dataset"
    wanted = "bucket/place/runs/20261126T030000Z-0f3a9c21/embeddings/images/part-00000.parquet"
    assert [file.at(dataset).path for dataset in (published, staged)] == [wanted, wanted]
    assert file.at(staged).uri == f"s3://{wanted}"
    assert shards_of_records([record()], published)[0].at(staged).path == f"{staged.path}/images/part-00000.parquet"


def test_names_of_our_files_are_taken(tmp_path: Path) -> None:
    names = ["images/part-00000.parquet", "shard-00001.faiss", "rows-3.npy", "a/b/c_d.e-f", "20261126T030000Z-0f3a9c21"]
    assert [
        one.path for one in shards_of_records([record(path=name) for name in names], storage.resolve(tmp_path))
    ] == names


@pytest.mark.parametrize("name", ["inputs_sha256", "shards_sha256"])
@pytest.mark.parametrize("digest", NO_DIGESTS)
def test_a_manifest_with_a_digest_that_is_none_is_refused(tmp_path: Path, name: str, digest: str) -> None:
    folder = write_whole_embeddings(tmp_path)
    Embeddings.open(str(folder))
    edit_manifest(folder, lambda manifest: manifest.update({name: digest}))
    with pytest.raises(RunFailed, match=f"manifest.json is damaged: {name} cannot be"):
        read_manifest(storage.resolve(folder), EmbeddingsManifest)


@pytest.mark.parametrize("path", OUTSIDE)
def test_source_parquet_lists_only_files_of_its_folder(tmp_path: Path, path: str) -> None:
    document = {
        "kind": "source",
        "schema_version": 1,
        "made_by": "import",
        "rows": 1,
        "captions": 0,
        "configuration": {},
        "files": [{"path": path, "rows": 1, "bytes": 1, "sha256": "0" * 64}],
        "runs": [],
        "software": {},
        "hardware": {},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(RunFailed, match=r"files\.0\.path cannot be"):
        read_manifest(storage.resolve(tmp_path), SourceManifest)


@pytest.mark.parametrize("name", ["../../victim", "/victim", "..", ".", "a/b", "", "../runs/a"])
def test_no_name_of_a_version_leads_to_another_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/kept").write_text("kept")
    place = Place.of(str(tmp_path / "a/out"))
    storage.write_bytes(place.unfinished, json.dumps({"name": name, "key": "k", "base": None}).encode())
    assert read_unfinished(place) is None
    begin(place, "another", None)
    assert (tmp_path / "victim/kept").read_text() == "kept"
    pointer = {"version": name, "switched": "2026-01-01T00:00:00Z", "manifests": {}}
    storage.write_bytes(place.pointer, json.dumps(pointer).encode())
    with pytest.raises(RunFailed, match=r"current\.json is damaged"):
        read_pointer(place)


def test_a_version_that_calls_itself_otherwise_is_refused(tmp_path: Path) -> None:
    place = Place.of(str(tmp_path))
    version = {"name": "b", "made": "2026-01-01T00:00:00Z", "base": None, "key": "", "manifests": {}, "counts": {}}
    version |= dict.fromkeys(("rows_encoded", "rows_reused", "removed", "ordinals"), 0)
    version |= {"training": None, "notes": [], "bars": []}
    storage.write_bytes(place.version("b") / "version.json", json.dumps(version).encode())
    storage.write_bytes(place.version("a") / "version.json", json.dumps(version).encode())
    assert read_version(place, "b").name == "b"
    with pytest.raises(RunFailed, match="says that it is version b"):
        read_version(place, "a")


def _token(record: dict[str, Any]) -> None:
    record["token"] = "../../victim"


def _old(record: dict[str, Any]) -> None:
    record["old"] = ["../victim/kept"]


def _made(record: dict[str, Any]) -> None:
    record["made"] = ["/etc/passwd"]


@pytest.mark.parametrize("spoil", [_token, _old, _made])
def test_a_record_of_publishing_that_leads_elsewhere_counts_for_nothing(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None]
) -> None:
    output = storage.resolve(tmp_path / "out")
    whole = {"token": "0f3a9c21", "last": "manifest.json", "sha256": "0" * 64, "replaced": None, "made": [], "old": []}
    place = staging_of(output) / "publishing.json"
    storage.write_bytes(place, json.dumps(whole).encode())
    assert publication.read(output) is not None
    spoil(whole)
    storage.write_bytes(place, json.dumps(whole).encode())
    assert publication.read(output) is None


def test_a_dataset_whose_name_is_misspelled_is_named(tmp_path: Path) -> None:
    written = write_whole_embeddings(tmp_path)
    (tmp_path / "embeddingz").mkdir()
    with pytest.raises(UserError) as told:
        Embeddings.open(str(tmp_path / "embeddngz"))
    assert f"there is no such folder; did you mean {written}?" in str(told.value)


def test_a_folder_that_is_no_dataset_is_not_said_to_be_meant(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UserError) as told:
        Embeddings.open(str(tmp_path / "picturs"))
    assert "did you mean" not in str(told.value)


def test_neighbours_that_cannot_be_looked_at_are_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole_embeddings(tmp_path)

    def refused(folder: object) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("clipmill.datasets.manifests.os.listdir", refused)
    with pytest.raises(UserError, match="make one with `clipmill embed`"):
        Embeddings.open(str(tmp_path / "embeddngz"))
