"""Texts about pictures as `clipmill caption` leaves them, with words that a test chooses."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.manifests import Run
from clipmill.core.schemas import REJECTED, TEXTS
from clipmill.core.text_manifests import GeneratorIdentity, TextCounts, TextsManifest, TextThroughput
from clipmill.datasets.manifests import write_manifest
from clipmill.datasets.shards import describe_shard, write_shards
from clipmill.source.cutting import plan_units
from clipmill.source.inputs import find_inputs
from clipmill.source.planned import digest_of_inputs, write_inputs


def write_texts(folder: Path, input: str, texts: Mapping[int, Sequence[str]], prompt: str = "") -> str:
    """A finished dataset: of each row of ``input`` its texts, each of which is a candidate; rows without any are rejects."""
    inputs = find_inputs(input)
    rows = [(file.ordinal << 32) + number for file in inputs for number in range(file.rows)]
    said = [
        {"row": row, "id": f"p{row}", "candidate": at, "prompt": prompt, "text": text, "tokens": 3, "logprob": -1.0}
        | {"finish": "stop"}
        for row in rows
        for at, text in enumerate(texts.get(row, ()))
    ]
    silent = [row for row in rows if not texts.get(row)]
    known = {"id": "", "source": input, "kind": "text", "caption_index": None, "reason": "empty_text", "detail": ""}
    rejected = [{"row": row, **known} for row in silent]
    dataset = storage.resolve(folder)
    shards = []
    for part, records, schema in (("texts", said, TEXTS), ("rejected", rejected, REJECTED)):
        place = folder / part / "part-00000.parquet"
        place.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(records, schema=schema), place, row_group_size=64)
        ends = (records[0]["row"], records[-1]["row"]) if records else (None, None)
        shards.append(describe_shard(dataset, f"{part}/part-00000.parquet", part, len(records), *ends))
    now = datetime.now(timezone.utc)
    most = max((len(found) for found in texts.values()), default=1)
    manifest = TextsManifest(
        generator=GeneratorIdentity(name="a test", engine="test", weights_sha256=None, processor_sha256=None),
        counts=TextCounts(
            rows=len(rows),
            answered=len(rows) - len(silent),
            texts=len(said),
            tokens=3 * len(said),
            rejected_texts=len(silent),
            rejected_by_reason={"empty_text": len(silent)} if silent else {},
        ),
        configuration={"inputs_digest": digest_of_inputs(inputs), "input": input, "candidates": most},
        runs=[Run(started=now, finished=now, rows_encoded=len(rows), rows_reused=0)],
        throughput=TextThroughput(wall_seconds=1, texts_per_second=1, tokens_per_second=1, stage_seconds={}),
        software={},
        hardware={},
        inputs_sha256=write_inputs(inputs, plan_units(inputs, 64), {}, dataset),
        shards_sha256=write_shards(dataset, shards),
    )
    write_manifest(dataset, manifest)
    return str(folder)
