"""The next version's embeddings: exactly the rows that stay and those that are new, whole by `clipmill verify`."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wholesome
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import OutputSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.source.inputs import find_inputs
from clipmill.storage import resolve, sha256, write_bytes
from clipmill.storage.s3 import client as s3_client
from clipmill.verification.embeddings import verify_embeddings
from clipmill.versions import compose as compose_module
from clipmill.versions.changes import changes_since
from clipmill.versions.compose import Composition, compose, rejects_of
from clipmill.versions.takedown import Takedown
from faulty_s3 import BUCKET, FaultyS3
from wholesome import SOURCES, Source, identity, write_whole_embeddings

NOTHING = Takedown()
PARTS = ("images", "captions", "rejected")


@dataclass
class Night:
    """A published version in ``folder``, whose source files may be changed, and the version after it."""

    folder: Path
    base: Embeddings

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def compose(self, removed: Takedown = NOTHING, name: str = "next") -> EmbeddingsManifest:
        changes = changes_since(self.base, find_inputs(str(self.source)))
        output = OutputSettings(output=str(self.folder / name / "embeddings"))
        return compose(Composition(output, self.base, None, changes, removed, identity(), {"limit": None}))

    def next(self, name: str = "next") -> Path:
        return self.folder / name / "embeddings"


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path, Embeddings.open(str(write_whole_embeddings(tmp_path))))


def rows_of(dataset: Path, part: str) -> list[dict[str, Any]]:
    """Every row of a part, in the order of its files as listed."""
    listed = pq.read_table(dataset / "shards.parquet").to_pylist()
    tables = [pq.read_table(dataset / file["path"]) for file in listed if file["part"] == part]
    return pa.concat_tables(tables).to_pylist()


def faults(dataset: Path) -> list[str]:
    found = verify_embeddings(str(dataset), quick=False, reporter=Silent())
    assert not found.unchecked
    return found.faults


def test_unchanged_files_are_the_same_bytes_under_another_name(night: Night) -> None:
    manifest = night.compose()
    assert faults(night.next()) == []
    assert manifest.counts == night.base.manifest.counts
    assert (manifest.runs[0].rows_encoded, manifest.runs[0].rows_reused) == (0, 400)
    for file in night.base.shards:
        old, new = Path(night.base.location.path, file.path), night.next() / file.path
        assert os.stat(old).st_ino == os.stat(new).st_ino
    shutil.rmtree(night.base.location.path)
    assert faults(night.next()) == [], "a version is whole without the one that it grew from"


def test_rows_of_a_deleted_file_are_gone_and_all_others_stay(night: Night) -> None:
    (night.source / "a.parquet").unlink()
    manifest = night.compose()
    assert faults(night.next()) == []
    for part in PARTS:
        before = rows_of(Path(night.base.location.path), part)
        assert rows_of(night.next(), part) == [row for row in before if row["row"] >> 32 != 0]
    assert manifest.counts.rows == 60 + 190
    assert manifest.counts.without_image_column == 60
    untouched = [file for file in night.base.shards if file.path.endswith("part-00003.parquet")]
    assert untouched
    for file in untouched:
        old, new = Path(night.base.location.path, file.path), night.next() / file.path
        assert os.stat(old).st_ino == os.stat(new).st_ino


def test_an_id_that_was_taken_down_is_a_reject_and_nothing_else(night: Night) -> None:
    removed = Takedown(frozenset({"a-2", "c-5", "a-11", "b-7", "nobody"}))
    manifest = night.compose(removed)
    assert faults(night.next()) == []
    for part in ("images", "captions"):
        before = rows_of(Path(night.base.location.path), part)
        assert rows_of(night.next(), part) == [row for row in before if row["id"] not in removed.ids]
    rejected = rows_of(night.next(), "rejected")
    down = [(row["id"], row["kind"], row["caption_index"]) for row in rejected if row["reason"] == "removed"]
    assert down == [
        ("a-2", "image", None),
        ("a-2", "caption", 0),
        ("a-2", "caption", 1),
        ("a-11", "caption", 0),  # its image was a reject before, and stays one
        ("a-11", "caption", 1),
        ("b-7", "caption", 0),
        ("c-5", "image", None),
        ("c-5", "caption", 0),
        ("c-5", "caption", 1),
    ]
    assert {row["source"] for row in rejected if row["id"] == "c-5"} == {str(night.source / "c.parquet")}
    assert manifest.counts.rejected_by_reason["removed"] == 9
    assert rejects_of(manifest.counts) == rejects_of(night.base.manifest.counts)


def test_what_was_taken_down_stays_down_without_looking_again(night: Night) -> None:
    removed = Takedown(frozenset({"a-2"}))
    first = night.compose(removed)
    again = Night(night.folder, Embeddings.open(str(night.next())))
    second = again.compose(removed, "after")
    assert faults(again.next("after")) == []
    assert second.counts == first.counts
    assert [file.path for file in Embeddings.open(str(again.next("after"))).shards] == [
        file.path for file in again.base.shards
    ]


def test_new_rows_follow_with_ordinals_of_their_own_and_are_looked_through(night: Night, tmp_path: Path) -> None:
    """The new rows are a dataset of which ordinals 0 to 2 stand for nothing: only its last file is there."""
    sources = (*[Source(source.name, 0) for source in SOURCES], Source("d", 40, reject_every=10))
    made = write_whole_embeddings(tmp_path / "made", sources)
    for part in PARTS:
        for file in (made / part).iterdir():
            file.rename(file.with_name(f"{file.stem}-made.parquet"))
    listed = pq.read_table(made / "shards.parquet").to_pylist()
    renamed = [{**file, "path": file["path"].replace(".parquet", "-made.parquet")} for file in listed]
    pq.write_table(pa.Table.from_pylist(renamed, pq.read_schema(made / "shards.parquet")), made / "shards.parquet")
    shutil.copy2(tmp_path / "made/source/d.parquet", night.source / "d.parquet")
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["shards_sha256"] = sha256(resolve(made / "shards.parquet"))
    (made / "manifest.json").write_text(json.dumps(manifest))
    changes = changes_since(night.base, find_inputs(str(night.source)))
    assert [file.ordinal for file in changes.new] == [3]
    lines = pq.read_table(made / "inputs.parquet")
    pq.write_table(lines.filter(pa.array([False] * 3 + [True])), made / "inputs.parquet")
    output = OutputSettings(output=str(night.next()))
    work = Composition(
        output,
        night.base,
        Embeddings.open(str(made)),
        changes,
        Takedown(frozenset({"d-3"})),
        identity(),
        {"limit": None},
    )
    composed = compose(work)
    assert faults(night.next()) == []
    expected = rows_of(Path(night.base.location.path), "images") + rows_of(made, "images")
    assert rows_of(night.next(), "images") == [row for row in expected if row["id"] != "d-3"]
    assert composed.counts.rows == 440
    assert composed.configuration["new"]["rows"] == 40
    assert composed.runs[0].rows_reused == 400


def test_composing_again_changes_nothing(night: Night) -> None:
    first = night.compose()
    inode = os.stat(night.next() / "manifest.json").st_ino
    assert night.compose() == first
    assert os.stat(night.next() / "manifest.json").st_ino == inode


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with FaultyS3() as running:
        yield running


def test_on_s3_files_are_copied_by_the_server(
    server: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    s3_client.forget()
    local = write_whole_embeddings(tmp_path)
    there = resolve(f"s3://{BUCKET}/{tmp_path.name}/1/embeddings")
    for path in local.rglob("*"):
        if path.is_file():
            write_bytes(there / str(path.relative_to(local)), path.read_bytes())
    (tmp_path / "source/a.parquet").unlink()
    base = Embeddings.open(there.uri)
    changes = changes_since(base, find_inputs(str(tmp_path / "source")))
    output = resolve(f"s3://{BUCKET}/{tmp_path.name}/2/embeddings")
    settings = OutputSettings(output=output.uri)
    manifest = compose(
        Composition(settings, base, None, changes, Takedown(frozenset({"c-5"})), identity(), {"limit": None})
    )
    assert manifest.counts.rows == 250
    found = verify_embeddings(output.uri, quick=False, reporter=Silent())
    assert (found.faults, found.unchecked) == ([], [])
    assert "c-5" not in {row["id"] for row in Embeddings.open(output.uri).table("images", ["id"]).to_pylist()}
    s3_client.forget()


@pytest.mark.parametrize("removed", [Takedown(), Takedown(frozenset({"c-100", "c-120"}))])
def test_small_files_become_one_and_no_row_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: Takedown
) -> None:
    """Of 400 rows the first 200 are two files per part, as large as files get here, and the others twenty of ten rows."""
    place_of = wholesome._input_row

    def in_small_files(record: dict[str, Any], sources: Any) -> int:
        row = place_of(record, sources)
        return row if row < 200 else 200 + (row - 200) * 10

    monkeypatch.setattr(wholesome, "_input_row", in_small_files)
    monkeypatch.setattr(compose_module, "ROWS_PER_SHARD", 150)
    night = Night(tmp_path, Embeddings.open(str(write_whole_embeddings(tmp_path))))
    manifest = night.compose(removed)
    assert faults(night.next()) == []
    assert len(night.base.shards_of("images")) == 2 + 19, "the rows of one file have no images"
    made = Embeddings.open(str(night.next()))
    assert [file.rows for file in made.shards_of("images")][:2] == [90, 45]
    assert 100 < made.shards_of("images")[2].rows <= 150
    assert len(made.shards_of("images")) <= 2 + 1 + 6
    for file in (file for part in PARTS for file in night.base.shards_of(part)[:2] if file.rows > 20):
        old, new = Path(night.base.location.path, file.path), night.next() / file.path
        assert os.stat(old).st_ino == os.stat(new).st_ino
    for part in PARTS:
        before = rows_of(Path(night.base.location.path), part)
        after = [row for row in rows_of(night.next(), part) if row.get("reason") != "removed"]
        assert after == [row for row in before if row["id"] not in removed.ids]
    joined = made.open_shard(made.shards_of("images")[2])
    assert joined.num_row_groups == 1, "the row groups of small files are small"
    assert manifest.counts.rows == 400
    shutil.rmtree(night.base.location.path)
    assert faults(night.next()) == []


def hash_of(id_: str) -> str:
    """The content of the picture with this id, as `wholesome` has it."""
    return hashlib.sha256(id_.encode()).hexdigest()


def test_content_that_was_taken_down_goes_with_its_captions_under_whatever_id(night: Night) -> None:
    manifest = night.compose(Takedown(contents=frozenset({hash_of("a-2"), hash_of("c-5"), "0" * 64})))
    assert faults(night.next()) == []
    for part in ("images", "captions"):
        before = rows_of(Path(night.base.location.path), part)
        assert rows_of(night.next(), part) == [row for row in before if row["id"] not in ("a-2", "c-5")]
    rejected = [row for row in rows_of(night.next(), "rejected") if row["reason"] == "removed"]
    assert [(row["id"], row["caption_index"]) for row in rejected] == [
        ("a-2", None),
        ("a-2", 0),
        ("a-2", 1),
        ("c-5", None),
        ("c-5", 0),
        ("c-5", 1),
    ]
    assert manifest.counts.rejected_by_reason["removed"] == 6


def test_rejects_of_rows_that_were_taken_down_quote_nothing_any_more(night: Night) -> None:
    night.compose(Takedown(frozenset({"a-11", "a-4"})))
    assert faults(night.next()) == []
    before = {(row["row"], row["caption_index"]): row for row in rows_of(Path(night.base.location.path), "rejected")}
    assert any(row["id"] == "a-11" and row["detail"] == "made so" for row in before.values())
    for row in rows_of(night.next(), "rejected"):
        if row["id"] in ("a-11", "a-4"):
            assert row["detail"] == "taken down"
            old = before.get((row["row"], row["caption_index"]))
            assert old is None or old["reason"] == row["reason"]
        else:
            assert row == before[row["row"], row["caption_index"]]


def test_what_an_older_clipmill_took_down_is_looked_through_once_more(night: Night) -> None:
    """It left rejects that quote what was taken down, and another digest of the same list."""
    old = json.loads(Path(night.base.location.path, "manifest.json").read_text())
    old["configuration"]["removed_sha256"] = hashlib.sha256(json.dumps(["a-11"]).encode()).hexdigest()
    Path(night.base.location.path, "manifest.json").write_text(json.dumps(old))
    again = Night(night.folder, Embeddings.open(night.base.location.uri))
    again.compose(Takedown(frozenset({"a-11"})))
    assert {row["detail"] for row in rows_of(again.next(), "rejected") if row["id"] == "a-11"} == {"taken down"}


def test_rows_added_to_a_version_without_hashes_have_none_either(tmp_path: Path) -> None:
    base = write_whole_embeddings(tmp_path, sources=(Source("a", 50),))
    without_hashes(base)
    made = write_whole_embeddings(tmp_path / "made", sources=(Source("a", 0), Source("b", 30)))
    shutil.copy2(tmp_path / "made/source/b.parquet", tmp_path / "source/b.parquet")
    opened = Embeddings.open(str(base))
    changes = changes_since(opened, find_inputs(str(tmp_path / "source")))
    output = OutputSettings(output=str(tmp_path / "next"))
    manifest = compose(
        Composition(output, opened, Embeddings.open(str(made)), changes, Takedown(), identity(), {"limit": None})
    )
    assert (manifest.schema_version, manifest.has_hashes) == (1, False)
    schemas = {str(pq.read_schema(file)) for file in (tmp_path / "next/images").iterdir()}
    assert len(schemas) == 1
    assert "image_sha256" not in schemas.pop()
    assert [row["id"] for row in rows_of(tmp_path / "next", "images")] == [
        *(f"a-{number}" for number in range(50)),
        *(f"b-{number}" for number in range(30)),
    ]


def without_hashes(dataset: Path) -> None:
    """The dataset as clipmill 0.1.0 would have written it."""
    listed = pq.read_table(dataset / "shards.parquet").to_pylist()
    for file in listed:
        if file["part"] == "images":
            table = pq.read_table(dataset / file["path"]).drop_columns(["image_sha256"])
            pq.write_table(table, dataset / file["path"])
            file["bytes"] = (dataset / file["path"]).stat().st_size
            file["sha256"] = sha256(resolve(dataset / file["path"]))
    pq.write_table(pa.Table.from_pylist(listed, pq.read_schema(dataset / "shards.parquet")), dataset / "shards.parquet")
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest |= {"schema_version": 1, "shards_sha256": sha256(resolve(dataset / "shards.parquet"))}
    (dataset / "manifest.json").write_text(json.dumps(manifest))
