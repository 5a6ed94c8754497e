"""verify finds what is wrong with texts: rows lost or doubled, files altered, counts that are not theirs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from blocks import write_pictures
from clipmill import storage
from clipmill.core.reporter import Silent
from clipmill.core.schemas import REJECTED, TEXTS
from clipmill.core.settings import CaptionSettings, ClusterSettings
from clipmill.core.text_manifests import TextsManifest
from clipmill.datasets.manifests import read_manifest, write_manifest
from clipmill.datasets.shards import describe_shard, read_shards, write_shards
from clipmill.runs.text_stages import words_stage
from clipmill.verification.dataset import verify
from tiny_generators import tiny_generator

ROWS = 20
Change = Callable[[pa.Table, pa.Table], tuple[pa.Table, pa.Table]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    model = tiny_generator("llava", tmp_path_factory.mktemp("model")).folder
    pictures = write_pictures(folder / "in", ROWS)
    options = {"max_tokens": 3, "temperature": 1.0, "candidates": 2}
    settings = CaptionSettings(input=pictures, output=str(folder / "out"), model=str(model), **options)
    words_stage(settings, ClusterSettings(device="cpu", cpus=1), Silent())
    return folder / "out"


@pytest.fixture
def altered(whole: Path, tmp_path: Path) -> Callable[[Change], list[str]]:
    """The faults of the texts with their tables changed, and everything else made to fit again but the counts."""

    def alter(change: Change) -> list[str]:
        place = storage.resolve(tmp_path / "out")
        manifest = read_manifest(storage.resolve(whole), TextsManifest)
        shards = {shard.part: shard for shard in read_shards(storage.resolve(whole), manifest.shards_sha256)}
        tables = change(*(pq.read_table(whole / shards[part].path) for part in ("texts", "rejected")))
        made = []
        for (part, schema), table in zip((("texts", TEXTS), ("rejected", REJECTED)), tables, strict=True):
            file = tmp_path / "out" / shards[part].path
            file.parent.mkdir(parents=True)
            pq.write_table(table.cast(schema), file)
            rows = table.column("row").to_pylist()
            ends = (min(rows), max(rows)) if rows else (None, None)
            made.append(describe_shard(place, shards[part].path, part, table.num_rows, *ends))
        (tmp_path / "out/inputs.parquet").write_bytes((whole / "inputs.parquet").read_bytes())
        digest = write_shards(place, made)
        counts = manifest.counts.model_copy(update=_counts(*tables))
        write_manifest(place, manifest.model_copy(update={"shards_sha256": digest, "counts": counts}))
        return verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults

    return alter


def _counts(texts: pa.Table, rejects: pa.Table) -> dict[str, Any]:
    reasons = rejects.column("reason").to_pylist()
    return {
        "texts": texts.num_rows,
        "answered": len(set(texts.column("row").to_pylist())),
        "tokens": sum(texts.column("tokens").to_pylist()),
        "cut": texts.column("finish").to_pylist().count("length"),
        "rejected_by_reason": {reason: reasons.count(reason) for reason in set(reasons)},
    }


def _reject(row: int, candidate: int | None, reason: str = "empty_text") -> pa.Table:
    values = {"row": row, "id": f"p{row}", "source": "in", "kind": "text", "caption_index": candidate}
    return pa.Table.from_pylist([{**values, "reason": reason, "detail": ""}], schema=REJECTED)


def test_whole_texts_have_no_fault(whole: Path, altered: Callable[[Change], list[str]]) -> None:
    assert verify(str(whole), quick=False, reporter=Silent()).faults == []
    assert verify(str(whole), quick=True, reporter=Silent()).faults == []
    assert altered(lambda texts, rejects: (texts, rejects)) == []


def without(texts: pa.Table, row: int, candidate: int | None = None) -> pa.Table:
    gone = pc.equal(texts.column("row"), row)
    if candidate is not None:
        gone = pc.and_(gone, pc.equal(texts.column("candidate"), candidate))
    return texts.filter(pc.invert(gone))


CHANGES: dict[str, tuple[Change, str]] = {
    "a row is lost": (lambda t, r: (without(t, 4), r), "19 of 20 rows ended"),
    "the last row is lost": (lambda t, r: (without(t, ROWS - 1), r), "19 of 20 rows ended"),
    "a candidate is lost": (lambda t, r: (without(t, 4, 1), r), "not one text or reject for each of 2 candidates"),
    "a candidate is there twice": (
        lambda t, r: (pa.concat_tables([without(t, 4, 1), t.slice(8, 1)]).sort_by("row"), r),
        "a candidate of a row is there twice",
    ),
    "a row is text and reject": (lambda t, r: (t, _reject(3, None)), "both a reject and texts"),
    "a reason is unknown": (
        lambda t, r: (without(t, 3), _reject(3, None, "bored")),
        "the reason 'bored' is none of ours",
    ),
    "an end is unknown": (
        lambda t, r: (t.set_column(7, "finish", pa.array(["bored"] * t.num_rows)), r),
        "finish is 'bored'",
    ),
    "a text is empty": (lambda t, r: (t.set_column(4, "text", pa.array([" "] * t.num_rows)), r), "a text is empty"),
    "a probability is above one": (
        lambda t, r: (t.set_column(6, "logprob", pa.array([0.5] * t.num_rows, pa.float32())), r),
        "a logprob is no logarithm",
    ),
    "a row is of no file": (
        lambda t, r: (t.set_column(0, TEXTS.field(0), pc.add(t.column("row"), 1 << 32)), r),
        "rows of 1 files that inputs.parquet does not list",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_fault_is_found(name: str, altered: Callable[[Change], list[str]]) -> None:
    change, expected = CHANGES[name]
    assert any(expected in fault for fault in altered(change))


def test_a_candidate_that_was_rejected_ends_too(altered: Callable[[Change], list[str]]) -> None:
    assert altered(lambda t, r: (without(t, 4, 1), _reject(4, 1))) == []


def test_a_reject_ends_a_row_of_all_candidates(altered: Callable[[Change], list[str]]) -> None:
    assert altered(lambda t, r: (without(t, 4), _reject(4, None))) == []


def test_an_altered_file_and_a_manifest_that_counts_otherwise_are_found(whole: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "out"
    shutil.copytree(whole, copy)
    (file,) = copy.glob("texts/*.parquet")
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(bytes(data))
    assert any("was altered" in fault for fault in verify(str(copy), quick=False, reporter=Silent()).faults)
    shutil.copy(next(whole.glob("texts/*.parquet")), file)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["counts"]["texts"] += 1
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert any("the manifest 41" in fault for fault in verify(str(copy), quick=True, reporter=Silent()).faults)
