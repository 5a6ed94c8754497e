"""verify finds what is wrong with captioned rows: rows lost or doubled, files altered, scores and counts not theirs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from blocks import write_pictures
from clipmill import storage
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, RecaptionSettings
from clipmill.core.text_manifests import CaptionedManifest
from clipmill.datasets.manifests import read_manifest, write_manifest
from clipmill.datasets.shards import describe_shard, read_shards, write_shards
from clipmill.runs.text_stages import recaption_stage
from clipmill.verification.dataset import verify
from texts_written import write_texts

ROWS = 20
Change = Callable[[pa.Table, pa.Table], tuple[pa.Table, pa.Table]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioned")
    pictures = write_pictures(folder / "in", ROWS, caption=[[f"number {row}", ""] for row in range(ROWS)])
    texts = write_texts(folder / "texts", pictures, {row: ["a", "a blue wall of bricks"] for row in range(ROWS)})
    settings = RecaptionSettings(input=pictures, texts=texts, output=str(folder / "out"), threshold=0.05)
    recaption_stage(settings, ClusterSettings(device="cpu", cpus=1), Silent())
    return folder / "out"


@pytest.fixture
def altered(whole: Path, tmp_path: Path) -> Callable[[Change], list[str]]:
    """The faults with the tables changed, and sizes and checksums made to fit again."""

    def alter(change: Change) -> list[str]:
        place = storage.resolve(tmp_path / "out")
        manifest = read_manifest(storage.resolve(whole), CaptionedManifest)
        shards = {shard.part: shard for shard in read_shards(storage.resolve(whole), manifest.shards_sha256)}
        parts = ("captioned", "dropped")
        made = []
        for part, table in zip(
            parts, change(*(pq.read_table(whole / shards[part].path) for part in parts)), strict=True
        ):
            file = tmp_path / "out" / shards[part].path
            file.parent.mkdir(parents=True)
            pq.write_table(table, file)
            rows = table.column("row").to_pylist()
            made.append(describe_shard(place, shards[part].path, part, table.num_rows, min(rows), max(rows)))
        shutil.copy(whole / "inputs.parquet", tmp_path / "out")
        write_manifest(place, manifest.model_copy(update={"shards_sha256": write_shards(place, made)}))
        return verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults

    return alter


def test_whole_rows_have_no_fault_and_are_of_both_parts(whole: Path, altered: Callable[[Change], list[str]]) -> None:
    assert verify(str(whole), quick=False, reporter=Silent()).faults == []
    assert verify(str(whole), quick=True, reporter=Silent()).faults == []
    assert altered(lambda kept, dropped: (kept, dropped)) == []
    manifest = read_manifest(storage.resolve(whole), CaptionedManifest)
    assert manifest.counts.kept_originals + manifest.counts.kept_generated > 0
    assert manifest.counts.dropped_by_reason["below_threshold"] > 0


def first_with_texts(kept: pa.Table) -> int:
    return next(at for at, texts in enumerate(kept.column("caption").to_pylist()) if texts)


def with_lists(kept: pa.Table, name: str, change: Callable[[list], list]) -> pa.Table:
    at, lists = first_with_texts(kept), kept.column(name).to_pylist()
    lists[at] = change(lists[at])
    number = kept.column_names.index(name)
    return kept.set_column(number, name, pa.array(lists, kept.schema.field(name).type))


CHANGES: dict[str, tuple[Change, str]] = {
    "a row is lost": (lambda k, d: (pa.concat_tables([k.slice(0, 3), k.slice(4)]), d), "19 of 20 rows are there"),
    "a row is there twice": (
        lambda k, d: (pa.concat_tables([k.slice(0, 4), k.slice(3)]), d),
        "rows are not in order, or are there twice",
    ),
    "a dropped text is lost": (lambda k, d: (k, d.slice(1)), "the manifest counts"),
    "a kept text is lost": (
        lambda k, d: (with_lists(with_lists(with_lists(k, "caption", drop), "score", drop), "caption_source", drop), d),
        "the manifest counts",
    ),
    "lists are of different lengths": (lambda k, d: (with_lists(k, "score", drop), d), "are not of one length"),
    "a kept score is too low": (
        lambda k, d: (with_lists(k, "score", lambda scores: [0.01, *scores[1:]]), d),
        "a text is kept that scores less",
    ),
    "a caption is empty": (
        lambda k, d: (with_lists(k, "caption", lambda texts: ["", *texts[1:]]), d),
        "a caption is empty",
    ),
    "a source is unknown": (
        lambda k, d: (with_lists(k, "caption_source", lambda names: ["heard", *names[1:]]), d),
        "caption_source is 'heard'",
    ),
    "a dropped score is too high": (
        lambda k, d: (k, d.set_column(5, d.field(5), pc.add(d.column(5), pa.scalar(2, pa.float32())))),
        "a text is dropped that scores",
    ),
    "a reason is unknown": (
        lambda k, d: (k, d.set_column(6, d.field(6), pa.array(["bored"] * d.num_rows))),
        "the reason 'bored' is none of ours",
    ),
    "a column is gone": (lambda k, d: (k.drop_columns(["caption_source"]), d), "has other columns than captioned rows"),
}


def drop(values: list) -> list:
    return values[1:]


@pytest.mark.parametrize("name", CHANGES)
def test_a_fault_is_found(name: str, altered: Callable[[Change], list[str]]) -> None:
    change, expected = CHANGES[name]
    found = altered(change)
    assert any(expected in fault for fault in found), found


def test_an_altered_file_is_found(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    (file,) = (tmp_path / "out").glob("captioned/*.parquet")
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(bytes(data))
    assert any("was altered" in fault for fault in verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults)
