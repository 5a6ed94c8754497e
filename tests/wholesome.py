"""A small, whole dataset of every kind, and the tools to corrupt it with or without its lists noticing."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill.core import manifests, schemas
from clipmill.core.reporter import Silent
from clipmill.core.settings import EvaluateSettings, IndexSettings
from clipmill.datasets.manifests import INPUTS_FILE, embedding_column, part_writer, write_manifest
from clipmill.datasets.shards import describe_shard, write_shards
from clipmill.index.build.build import make_build
from clipmill.report.evaluation import evaluate, make_evaluation
from clipmill.storage import resolve, sha256, write_table
from indexing import build_here

DIMENSION = 16
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Source:
    """A source file: every ``reject_every``-th image is a reject; row i has i % 3 captions, those of row 4 rejected."""

    name: str
    rows: int
    images: bool = True
    reject_every: int = 0

    def is_rejected(self, row: int) -> bool:
        return bool(self.reject_every) and row % self.reject_every == 1


SOURCES = (Source("a", 150, reject_every=10), Source("b", 60, images=False), Source("c", 190))
ROWS_PER_SHARD = 100


def write_whole_embeddings(folder: Path, sources: Iterable[Source] = SOURCES, model: bool = True) -> Path:
    """An embeddings dataset in ``folder/embeddings`` of source files in ``folder/source``, in several shards a part."""
    random = np.random.default_rng(0)
    output = folder / "embeddings"
    (folder / "source").mkdir(parents=True)
    records: dict[str, list[dict[str, Any]]] = {"images": [], "captions": [], "rejected": []}
    inputs = []
    for ordinal, source in enumerate(sources):
        path = folder / "source" / f"{source.name}.parquet"
        pq.write_table(pa.table({"text": [f"row {row}" for row in range(source.rows)]}), path)
        captions = 0
        for number in range(source.rows):
            row = (ordinal << 32) + number
            base = {"row": row, "id": f"{source.name}-{number}"}
            reject = {**base, "source": str(path), "detail": "made so"}
            if source.images and source.is_rejected(number):
                records["rejected"].append({**reject, "kind": "image", "caption_index": None, "reason": "not_an_image"})
            elif source.images:
                picture = {"width": 8, "height": 8, "image_sha256": hashlib.sha256(base["id"].encode()).digest()}
                records["images"].append({**base, **picture, "label": f"label {number % 5}"})
            for index in range(number % 3):
                captions += 1
                if number == 4:
                    records["rejected"].append(
                        {**reject, "kind": "caption", "caption_index": index, "reason": "empty_caption"}
                    )
                else:
                    caption = {"caption_index": index, "caption": f"{source.name} {number} {index}", "clip_score": 0.5}
                    records["captions"].append({**base, **caption})
        size, etag = path.stat().st_size, str(path.stat().st_mtime_ns)
        inputs.append([ordinal, str(path), size, etag, source.rows, captions, False])
    part_schemas = {
        "images": schemas.images_schema(DIMENSION, [pa.field("label", pa.string())], hashes=model),
        "captions": schemas.captions_schema(DIMENSION),
        "rejected": schemas.REJECTED,
    }
    shards = []
    for part, schema in part_schemas.items():
        for number, rows in groupby(records[part], key=lambda record: _input_row(record, sources) // ROWS_PER_SHARD):
            chosen = list(rows)
            columns = {
                name: pa.array([record[name] for record in chosen], schema.field(name).type)
                for name in schema.names
                if name != "embedding"
            }
            if part != "rejected":
                columns["embedding"] = embedding_column(unit(random.standard_normal((len(chosen), DIMENSION))))
            path = f"{part}/part-{number:05d}.parquet"
            table = pa.table([columns[name] for name in schema.names], schema=schema)
            _write_part(output / path, table)
            ends = chosen[0]["row"], chosen[-1]["row"]
            shards.append(describe_shard(resolve(output), path, part, len(chosen), *ends))
    columns = [
        pa.array(values, field.type) for values, field in zip(zip(*inputs, strict=True), schemas.INPUTS, strict=True)
    ]
    write_table(resolve(output / INPUTS_FILE), pa.Table.from_arrays(columns, schema=schemas.INPUTS))
    counts = {part: len(found) for part, found in records.items()}
    images_rejected = sum(record["kind"] == "image" for record in records["rejected"])
    captions_rejected = counts["rejected"] - images_rejected
    write_manifest(
        resolve(output),
        manifests.EmbeddingsManifest(
            model=identity() if model else None,
            dimension=DIMENSION,
            counts=manifests.Counts(
                rows=sum(source.rows for source in sources),
                images=counts["images"],
                captions=counts["captions"],
                rejected_images=images_rejected,
                rejected_captions=captions_rejected,
                without_image_column=sum(source.rows for source in sources if not source.images),
                rejected_by_reason={"empty_caption": captions_rejected, "not_an_image": images_rejected},
            ),
            configuration={"thumbnails": None, "limit": None},
            kept_columns=["label"],
            runs=[manifests.Run(started=NOW, finished=NOW, rows_encoded=400, rows_reused=0, limited_by="test")],
            throughput=manifests.Throughput(
                wall_seconds=2, images_per_second=1, captions_per_second=1, images_per_cpu_second=1, stage_seconds={}
            ),
            software={},
            hardware={},
            inputs_sha256=sha256(resolve(output / INPUTS_FILE)),
            shards_sha256=write_shards(resolve(output), shards),
        ),
    )
    return output


def _input_row(record: dict[str, Any], sources: Iterable[Source]) -> int:
    before = [source.rows for source in sources][: record["row"] >> 32]
    return sum(before) + (record["row"] & 0xFFFFFFFF)


def write_whole_index(embeddings: Path, output: Path, **settings: object) -> Path:
    """An index in three shards over ``embeddings``."""
    values = {"factory": "IVF4,PQ4x4fsr", "shards": 3, "tuning_queries": 50, **settings}
    build_here(
        make_build(IndexSettings.model_validate({"embeddings": str(embeddings), "output": str(output), **values}))
    )
    return output


def write_whole_report(embeddings: Path, index: Path, output: Path) -> Path:
    """A report about both, without zero-shot classification."""
    settings = EvaluateSettings(
        embeddings=str(embeddings), index=str(index), output=str(output), bootstrap_samples=20, label_column=None
    )

    def encode(texts: list[str]) -> NDArray[np.float32]:
        return unit(np.ones((len(texts), DIMENSION))).astype(np.float32)

    evaluate(make_evaluation(settings), lambda identity: encode, output, Silent())
    return output


def identity() -> manifests.ModelIdentity:
    return manifests.ModelIdentity(
        name="tiny",
        pretrained="tag",
        weights_sha256="a" * 64,
        preprocessing={"size": 8},
        tokenizer="words",
        tokenizer_sha256="b" * 64,
        dimension=DIMENSION,
        logit_scale=100.0,
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)


def _write_part(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as stream, part_writer(stream, table.schema) as writer:
        writer.write_table(table, row_group_size=40)


def rewrite(folder: Path, path: str, change: Callable[[pa.Table], pa.Table], **counts: int) -> None:
    """Changes a Parquet shard and everything that lists it, so that nothing but its content tells."""
    _write_part(folder / path, change(pq.read_table(folder / path)))
    relist(folder, path)
    add_to_counts(folder, **counts)


def relist(folder: Path, *paths: str) -> None:
    """Makes `shards.parquet` and the manifest say what these files hold now."""
    records = pq.read_table(folder / "shards.parquet").to_pylist()
    for record in records:
        if record["path"] not in paths:
            continue
        file = folder / record["path"]
        record |= {"bytes": file.stat().st_size, "sha256": sha256(resolve(file))}
        if file.suffix == ".parquet":
            rows = pq.read_table(file, columns=["row"]).column("row").to_pylist()
            record |= {"rows": len(rows), "first_row": min(rows), "last_row": max(rows)}
    write_list(folder, records)


def write_list(folder: Path, records: list[dict[str, Any]]) -> None:
    """Another `shards.parquet`, and its sha256 in the manifest."""
    write_table(resolve(folder / "shards.parquet"), pa.Table.from_pylist(records, schema=schemas.SHARDS))
    edit_manifest(folder, lambda manifest: manifest.update(shards_sha256=sha256(resolve(folder / "shards.parquet"))))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object], name: str = "manifest.json") -> None:
    """Changes a manifest in place."""
    manifest = json.loads((folder / name).read_text())
    change(manifest)
    (folder / name).write_text(json.dumps(manifest, indent=2))


def add_to_counts(folder: Path, **counts: int) -> None:
    """Adds to the manifest's counts."""

    def change(manifest: dict[str, Any]) -> None:
        for name, more in counts.items():
            manifest["counts"][name] += more

    edit_manifest(folder, change)


def flip_bit(file: Path, bit: int | None = None) -> None:
    """One bit of a file, by default in its middle."""
    data = bytearray(file.read_bytes())
    bit = len(data) * 4 if bit is None else bit
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def swap(one: Path, other: Path) -> None:
    """The contents of two files."""
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
