"""Texts that are written again from those that are there, without asking a model."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmill import storage
from clipmill.core.schemas import REJECTED, TEXTS
from clipmill.core.text_manifests import TextsManifest
from clipmill.datasets.manifests import part_writer
from clipmill.datasets.shards import Shard, describe_shard, read_shards, write_shards
from clipmill.storage import Location
from clipmill.words.written import Written

_GROUP_ROWS = 8192


def tables_of(written: Written) -> tuple[pa.Table, pa.Table]:
    """All texts, and all rejects."""
    shards = read_shards(written.location, written.manifest.shards_sha256)
    texts, rejected = (
        pa.concat_tables(
            [storage.read_table(shard.at(written.location)) for shard in shards if shard.part == part]
            or [schema.empty_table()]
        )
        for part, schema in (("texts", TEXTS), ("rejected", REJECTED))
    )
    return texts, rejected


def rewritten(
    before: TextsManifest, texts: pa.Table, rejected: pa.Table, inputs_sha256: str, dataset: Location, token: str
) -> TextsManifest:
    """Writes these texts and rejects, in order of rows, to a dataset whose ``inputs.parquet`` is there; its manifest."""
    made = [_part(dataset, token, "texts", texts), _part(dataset, token, "rejected", rejected)]
    counts = before.counts.model_copy(update=_counts(texts, rejected))
    changed = {"counts": counts, "shards_sha256": write_shards(dataset, made), "inputs_sha256": inputs_sha256}
    return before.model_copy(update=changed)


def _part(dataset: Location, token: str, part: str, table: pa.Table) -> Shard:
    path = f"{part}/part-00000-{token}.parquet"
    with storage.atomic_writer(dataset / path) as stream, part_writer(stream, table.schema) as writer:
        writer.write_table(table, row_group_size=_GROUP_ROWS)
    rows = table.column("row")
    first, last = (rows[0].as_py(), rows[-1].as_py()) if table.num_rows else (None, None)
    return describe_shard(dataset, path, part, table.num_rows, first, last, stream.written)


def _counts(texts: pa.Table, rejected: pa.Table) -> dict[str, Any]:
    kinds = Counter(rejected.column("kind").to_pylist())
    return {
        "texts": texts.num_rows,
        "answered": len(pc.unique(texts.column("row"))),
        "tokens": pc.sum(texts.column("tokens")).as_py() or 0,
        "cut": texts.column("finish").to_pylist().count("length"),
        "rejected_images": kinds["image"],
        "rejected_texts": kinds["text"],
        "rejected_by_reason": dict(sorted(Counter(rejected.column("reason").to_pylist()).items())),
    }
