"""Every corruption of an embeddings dataset is found and named: by its files, and by its rows where only rows can tell."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clipmill.datasets.manifests import embedding_column, vectors_of
from clipmill.storage import resolve, sha256
from clipmill.verification.findings import Findings
from wholesome import (
    SOURCES,
    Source,
    edit_manifest,
    flip_bit,
    relist,
    rewrite,
    swap,
    write_list,
    write_whole_embeddings,
)

IMAGES = "images/part-00001.parquet"
CAPTIONS = "captions/part-00000.parquet"
REJECTED = "rejected/part-00000.parquet"
Corruption = Callable[[Path], object]


def take(*places: int) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.take(list(places))


def drop(place: int) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.take([*range(place), *range(place + 1, len(table))])


def without(row: int) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.filter(pc.not_equal(table["row"], row))


def set_column(name: str, place: int, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[place] = value
        field = table.schema.field(name)
        return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))

    return change


def scale_vector(place: int, factor: float) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        vectors = vectors_of(table["embedding"]).copy()
        vectors[place] *= np.float16(factor)
        at = table.schema.get_field_index("embedding")
        return table.set_column(at, table.schema.field("embedding"), embedding_column(vectors))

    return change


def twice(place: int) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.take([*range(place + 1), *range(place, len(table))])


def append_reject_of_image(table: pa.Table) -> pa.Table:
    like = next(record for record in table.to_pylist() if record["kind"] == "image")
    records = [*table.to_pylist(), {**like, "row": 6}]
    return pa.Table.from_pylist(sorted(records, key=lambda record: record["row"]), schema=table.schema)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def swap_listed(folder: Path) -> None:
    """Two shards under each other's names, and a list that tells their sizes and checksums, but not their rows."""
    one, other = "images/part-00000.parquet", "images/part-00002.parquet"
    swap(folder / one, folder / other)
    records = {record["path"]: record for record in pq.read_table(folder / "shards.parquet").to_pylist()}
    for key in ("rows", "bytes", "sha256"):
        records[one][key], records[other][key] = records[other][key], records[one][key]
    write_list(folder, list(records.values()))


def swap_and_relist(folder: Path) -> None:
    one, other = "images/part-00000.parquet", "images/part-00002.parquet"
    swap(folder / one, folder / other)
    relist(folder, one, other)


def list_twice(folder: Path) -> None:
    records = pq.read_table(folder / "shards.parquet").to_pylist()
    write_list(folder, [records[0], *records])


def count_off(name: str, by: int) -> Corruption:
    def change(manifest: dict) -> None:
        manifest["counts"][name] += by

    return lambda folder: edit_manifest(folder, change)


def reason_off(folder: Path) -> None:
    counts = {"empty_caption": 4, "not_an_image": 14}
    edit_manifest(folder, lambda manifest: manifest["counts"].update(rejected_by_reason=counts))


def change_inputs(place: int, name: str, value: object, *, listed: bool = True) -> Corruption:
    def corrupt(folder: Path) -> None:
        inputs = set_column(name, place, value)(pq.read_table(folder / "inputs.parquet"))
        pq.write_table(inputs, folder / "inputs.parquet")
        if listed:
            digest = sha256(resolve(folder / "inputs.parquet"))
            edit_manifest(folder, lambda manifest: manifest.update(inputs_sha256=digest))

    return corrupt


def nullable(table: pa.Table) -> pa.Table:
    fields = [field.with_nullable(True) if field.name == "embedding" else field for field in table.schema]
    return table.cast(pa.schema(fields))


def with_list_of_floats(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("embedding")
    return table.set_column(at, "embedding", table["embedding"].cast(pa.list_(pa.float32(), 16)))


FOUND_BY_ALL = {
    "a missing shard": (lambda e: (e / IMAGES).unlink(), [IMAGES, "missing"]),
    "an extra file": (lambda e: (e / "images/part-9.parquet").write_bytes(b"x"), ["part-9", "not belong"]),
    "a cut shard": (lambda e: cut(e / CAPTIONS), [CAPTIONS, "cut short"]),
    "an empty shard": (lambda e: (e / CAPTIONS).write_bytes(b""), [CAPTIONS, "0 bytes"]),
    "two shards swapped, listed with each other's size": (swap_listed, ["images/part-00000", "should hold 0 to 99"]),
    "two shards swapped, listed with all they hold": (swap_and_relist, ["images/part-00001", "before it ends"]),
    "a shard listed twice": (list_twice, ["twice"]),
    "no inputs.parquet": (lambda e: (e / "inputs.parquet").unlink(), ["inputs.parquet is missing"]),
    "no shards.parquet": (lambda e: (e / "shards.parquet").unlink(), ["shards.parquet is missing"]),
    "another inputs.parquet": (change_inputs(0, "rows", 9, listed=False), ["inputs.parquet", "not the one"]),
    "another shards.parquet": (lambda e: flip_bit(e / "shards.parquet"), ["shards.parquet", "does not belong"]),
    "a row more in inputs.parquet": (change_inputs(2, "rows", 191), ["inputs.parquet counts 401 rows"]),
    "a caption more in inputs.parquet": (change_inputs(2, "captions", 999), ["inputs.parquet", "captions"]),
    "images counted wrongly": (count_off("images", 1), ["images", "325", "326"]),
    "captions counted wrongly": (count_off("captions", -1), ["captions", "396", "395"]),
    "rejects counted wrongly": (count_off("rejected_images", 1), ["rejected", "18", "19"]),
    "rows counted wrongly": (count_off("rows", 1), ["400 rows, the manifest 401"]),
    "a column missing": (lambda e: rewrite(e, IMAGES, lambda t: t.drop_columns(["width"])), [IMAGES, "lacks", "width"]),
    "a kept column missing": (lambda e: rewrite(e, IMAGES, lambda t: t.drop_columns(["label"])), [IMAGES, "label"]),
    "an extra column": (
        lambda e: rewrite(e, IMAGES, lambda t: t.append_column("more", t["row"])),
        [IMAGES, "column more"],
    ),
    "a column of another type": (
        lambda e: rewrite(e, CAPTIONS, with_list_of_floats),
        [CAPTIONS, "embedding", "float"],
    ),
    "a kept column of two types": (
        lambda e: rewrite(e, IMAGES, lambda t: t.set_column(t.schema.get_field_index("label"), "label", t["row"])),
        [IMAGES, "label", "int64"],
    ),
    "embeddings that may be null": (lambda e: rewrite(e, IMAGES, nullable), [IMAGES, "embedding", "never null"]),
    "a manifest cut short": (lambda e: cut(e / "manifest.json"), ["manifest.json", "damaged"]),
    "a manifest of no kind": (
        lambda e: edit_manifest(e, lambda m: m.update(kind="embeddingz")),
        ["manifest.json", "embeddingz"],
    ),
    "a manifest without counts": (lambda e: edit_manifest(e, lambda m: m.pop("counts")), ["manifest.json", "damaged"]),
    "another dimension": (lambda e: edit_manifest(e, lambda m: m.update(dimension=8)), [IMAGES, "embedding", "[8]"]),
}

FOUND_BY_READING_ALL = {
    "a flipped bit": (lambda e: flip_bit(e / IMAGES), [IMAGES, "altered"]),
    "a row in place of another": (
        lambda e: rewrite(e, "images/part-00000.parquet", take(0, 1, 1, *range(3, 90))),
        ["a.parquet: row 2 is here 2 times", "images/part-00000"],
    ),
    "the row that was replaced": (
        lambda e: rewrite(e, "images/part-00000.parquet", take(0, 1, 1, *range(3, 90))),
        ["a.parquet: row 3 is neither", "lost"],
    ),
    "a row twice": (
        lambda e: rewrite(e, "images/part-00002.parquet", twice(5), images=1),
        ["c.parquet: row 5 is here 2 times"],
    ),
    "a row lost": (
        lambda e: rewrite(e, "images/part-00002.parquet", without((2 << 32) + 7), images=-1),
        ["c.parquet: row 7 is neither", "images/part-00002"],
    ),
    "the last rows lost": (
        lambda e: rewrite(e, "images/part-00003.parquet", take(*range(90)), images=-10),
        ["c.parquet: rows 180 to 189 are neither"],
    ),
    "a row that is an image and a reject": (
        lambda e: rewrite(e, REJECTED, append_reject_of_image, rejected_images=1),
        ["a.parquet: row 6 is both an image and a reject", "images/part-00000", REJECTED],
    ),
    "a reject lost": (
        lambda e: rewrite(e, REJECTED, without(21), rejected_images=-1),
        ["a.parquet: row 21 is neither"],
    ),
    "a row beyond the source": (
        lambda e: rewrite(e, "images/part-00003.parquet", set_column("row", 99, (2 << 32) + 5000)),
        ["c.parquet: row 5000 is here, but 190"],
    ),
    "a row of an unknown source": (
        lambda e: rewrite(e, "images/part-00003.parquet", set_column("row", 99, 9 << 32)),
        ["ordinal 9", "inputs.parquet does not list it"],
    ),
    "rows out of order": (
        lambda e: rewrite(e, "images/part-00000.parquet", take(0, 2, 1, *range(3, 90))),
        ["images/part-00000.parquet is not in order: row 2 comes after row 3"],
    ),
    "NaN": (lambda e: rewrite(e, IMAGES, scale_vector(3, np.nan)), [IMAGES, "row 104", "NaN"]),
    "a vector of zeros": (lambda e: rewrite(e, IMAGES, scale_vector(3, 0)), [IMAGES, "row 104", "length 0"]),
    "half a vector": (lambda e: rewrite(e, CAPTIONS, scale_vector(0, 0.5)), [CAPTIONS, "row 1 ", "length 0.5"]),
    "a vector slightly long": (
        lambda e: rewrite(e, IMAGES, scale_vector(0, 1.004)),
        [IMAGES, "row 100 ", "length 1.0"],
    ),
    "a caption twice": (
        lambda e: rewrite(e, CAPTIONS, twice(2), captions=1),
        ["a.parquet: row 2: caption 1 is here twice", CAPTIONS],
    ),
    "a first caption lost": (
        lambda e: rewrite(e, CAPTIONS, drop(1), captions=-1),
        ["a.parquet: row 2: caption 1 is here, but caption 0 is not: it is lost", CAPTIONS],
    ),
    "a last caption lost": (
        lambda e: rewrite(e, CAPTIONS, drop(2), captions=-1),
        ["a.parquet: 149 captions", "150 were read"],
    ),
    "a caption under another number": (
        lambda e: rewrite(e, CAPTIONS, set_column("caption_index", 2, 2)),
        ["a.parquet: row 2: caption 2 is here, but caption 1 is not"],
    ),
    "a reject of no kind": (
        lambda e: rewrite(e, REJECTED, set_column("kind", 0, "row")),
        [REJECTED, "row 1 ", "neither"],
    ),
    "a reject of an unknown reason": (
        lambda e: rewrite(e, REJECTED, set_column("reason", 0, "bad")),
        [REJECTED, "'bad'"],
    ),
    "rows without an image column counted wrongly": (
        count_off("without_image_column", 1),
        ["60 rows are of files without any image", "61"],
    ),
    "reasons counted wrongly": (reason_off, ["3 rejects of reason"]),
}


def reads(findings: Findings, words: list[str]) -> bool:
    return any(all(word in fault for word in words) for fault in findings.faults)


def test_the_dataset_is_whole_before_it_is_corrupted(embeddings: Path, check: Callable) -> None:
    findings = check(embeddings)
    assert findings.faults == []
    assert findings.notes == []
    assert findings.unchecked == []
    counted = {
        "rows": 400,
        "images": 325,
        "captions": 396,
        "rejected": 18,
        "vectors": 721,
        "source files": 3,
        "files": 11,
    }
    assert findings.checked == counted
    assert sum(source.rows for source in SOURCES) == 400


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("name", FOUND_BY_ALL)
def test_found_by_lists_and_footers(name: str, quick: bool, embeddings: Path, check: Callable) -> None:
    corrupt, words = FOUND_BY_ALL[name]
    corrupt(embeddings)
    findings = check(embeddings, quick=quick)
    assert reads(findings, words), findings.faults


@pytest.mark.parametrize("name", FOUND_BY_READING_ALL)
def test_found_by_reading_every_byte(name: str, embeddings: Path, check: Callable) -> None:
    corrupt, words = FOUND_BY_READING_ALL[name]
    corrupt(embeddings)
    findings = check(embeddings)
    assert reads(findings, words), findings.faults


def test_quick_says_what_it_leaves_out(embeddings: Path, check: Callable) -> None:
    flip_bit(embeddings / IMAGES)
    findings = check(embeddings, quick=True)
    assert findings.whole
    assert any("bit flips" in text for text in findings.unchecked)
    assert any("source files" in text for text in findings.unchecked)


def test_where_files_are_damaged_it_is_said_that_rows_were_not_counted(embeddings: Path, check: Callable) -> None:
    (embeddings / IMAGES).unlink()
    findings = check(embeddings)
    assert any("every row" in text for text in findings.unchecked)
    assert len(findings.faults) == 1


def test_of_many_faults_the_number_is_told(embeddings: Path, check: Callable) -> None:
    rewrite(embeddings, "images/part-00000.parquet", lambda table: scale_all(table))
    rewrite(embeddings, "images/part-00003.parquet", lambda table: scale_all(table))
    findings = check(embeddings)
    assert (len(findings.faults), findings.hidden) == (100, 90)


def scale_all(table: pa.Table) -> pa.Table:
    vectors = vectors_of(table["embedding"]) * np.float16(0.5)
    at = table.schema.get_field_index("embedding")
    return table.set_column(at, table.schema.field("embedding"), embedding_column(vectors))


def test_a_source_that_is_gone_or_changed_is_a_note(whole: Path, embeddings: Path, check: Callable) -> None:
    change_inputs(0, "etag", "1")(embeddings)
    change_inputs(1, "path", str(whole / "nowhere.parquet"))(embeddings)
    findings = check(embeddings)
    assert findings.whole
    assert any("1 of 3 source files not there any more" in note and "nowhere" in note for note in findings.notes)
    assert any("1 of 3 source files changed since" in note and "a.parquet" in note for note in findings.notes)


def test_an_unchanged_source_with_other_rows_than_were_read_is_a_fault(
    whole: Path, tmp_path: Path, embeddings: Path, check: Callable, told: Callable
) -> None:
    short = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": ["one"]}), short)
    status = short.stat()
    for name, value in (("path", str(short)), ("size", status.st_size), ("etag", str(status.st_mtime_ns))):
        change_inputs(2, name, value)(embeddings)
    told(check(embeddings), "c.parquet has 1 rows", "190 were read")


def test_a_limit_leaves_rows_of_the_source_unread(
    whole: Path, tmp_path: Path, embeddings: Path, check: Callable
) -> None:
    long = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": ["one"] * 1000}), long)
    status = long.stat()
    for name, value in (("path", str(long)), ("size", status.st_size), ("etag", str(status.st_mtime_ns))):
        change_inputs(2, name, value)(embeddings)
    assert not check(embeddings).whole
    edit_manifest(embeddings, lambda manifest: manifest["configuration"].update(limit=400))
    assert check(embeddings).whole


def test_repeated_ids_are_a_note(embeddings: Path, check: Callable) -> None:
    rewrite(embeddings, IMAGES, set_column("id", 0, "a-2"))
    findings = check(embeddings)
    assert findings.whole
    assert any("1 of 325 images" in note for note in findings.notes)


def test_a_dataset_without_images_is_whole(tmp_path: Path, check: Callable) -> None:
    folder = write_whole_embeddings(tmp_path, [Source("a", 70), Source("empty", 0), Source("b", 50, images=False)])
    shutil.rmtree(tmp_path / "source")
    findings = check(folder)
    assert findings.faults == []
    assert "3 of 3 source files" in findings.notes[0]
