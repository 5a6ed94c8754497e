"""Image and text vectors made elsewhere to an embeddings dataset, which can be indexed and evaluated like our own."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core import environment
from clipmill.core.errors import UserError
from clipmill.core.manifests import (
    SCHEMA_VERSION,
    Counts,
    EmbeddingsManifest,
    ModelIdentity,
    Run,
    Throughput,
)
from clipmill.core.reporter import Reporter
from clipmill.core.schemas import INPUTS, REJECTED, Reason, captions_schema, images_schema
from clipmill.core.settings import ImportVectorsSettings
from clipmill.datasets.manifests import INPUTS_FILE, embedding_column, part_writer
from clipmill.datasets.shards import Shard, describe_shard, write_shards
from clipmill.source.importers.npy import unit_vectors
from clipmill.source.importers.vector_source import VectorSource, open_vectors
from clipmill.stage.kinds import EMBEDDINGS
from clipmill.stage.stage import Made, Stage, Work, configuration_differences
from clipmill.stage.staging import Started
from clipmill.storage import Location

ROWS_PER_FILE = 131_072
_ROWS_AT_ONCE = 8192
_Progress = Callable[[int], None]


@dataclass(frozen=True)
class VectorImport(Stage[EmbeddingsManifest]):
    """Vectors to be brought into an embeddings dataset. ``configuration`` has the settings and a digest of the files."""

    name = "import vectors"
    kind = EMBEDDINGS
    continues = False
    settings: ImportVectorsSettings
    configuration: dict[str, Any]
    model: ModelIdentity | None = None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the content."""
        model = {"model": self.model.model_dump(mode="json")} if self.model else {}
        return {"stage": self.name, "settings": self.configuration, **model}

    def differences(self, found: EmbeddingsManifest) -> list[str]:
        """How embeddings at the output differ from these vectors, in words."""
        if found.model is not None and "images" not in found.configuration:
            return ["it holds images and captions that a model embedded, and not imported vectors"]
        if (found.model is None) != (self.model is None):
            return ["the model that made the vectors was named" if found.model else "the model was not named"]
        if found.model is not None and self.model is not None and (told := found.model.differences(self.model)):
            return told
        now = {key: value for key, value in self.configuration.items() if key != "inputs_digest"}
        told = configuration_differences(found.configuration, now)
        if not told and found.configuration.get("inputs_digest") != self.configuration["inputs_digest"]:
            told.append("the files have changed since")
        return told


def import_vectors(
    settings: ImportVectorsSettings, reporter: Reporter, model: ModelIdentity | None = None
) -> Made[EmbeddingsManifest]:
    """An embeddings dataset at ``settings.output``. ``model`` is the one that made the vectors, where that is known: then texts
    and pictures can be searched for.

    Vectors are divided by their length and rounded to float16. Row i of the texts belongs to row i of the images unless
    ``text_image`` has the image of every text. Metadata has a row per image, or with ``text_image`` a row per text.

    Raises UserError when the parts do not fit together, and when another run works towards the output.
    """
    configuration = {**settings.model_dump(exclude={"output", "overwrite"}), "inputs_digest": _digest(settings)}
    stage = VectorImport(settings, configuration, model)

    def work(work: Work) -> EmbeddingsManifest:
        start, source = work.start(), open_vectors(settings)
        total, done = len(source.images) + len(source.order), 0

        def advance(vectors: int) -> None:
            nonlocal done
            done += vectors
            reporter.progress(stage.name, done, total, "vectors")

        advance(0)
        if model is not None and model.dimension != source.images.dimension:
            raise UserError(
                f"the vectors have {source.images.dimension} dimensions and those of the model {model.name} have "
                f"{model.dimension}, so it did not make them"
            )
        made = _write(source, work, start, configuration, advance)
        return made.model_copy(update={"model": model, "schema_version": SCHEMA_VERSION}) if model is not None else made

    return stage.run(work)


def _digest(settings: ImportVectorsSettings) -> str:
    """sha256 over names, sizes and times of the files given."""
    digest = hashlib.sha256()
    for uri in (settings.images, settings.texts, settings.text_image, settings.metadata):
        place = storage.resolve(uri) if uri else None
        info = place.filesystem.get_file_info(place.path) if place else None
        files = storage.list_files(place, recursive=False) if place and info and not info.is_file else [info]
        digest.update(json.dumps([[file.path, file.size, file.mtime_ns] for file in files if file]).encode())
    return digest.hexdigest()


@dataclass
class _Rejects:
    """Vectors without a direction, kept until both kinds are known, for rejects are in the order of their rows."""

    source: VectorSource
    records: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, images: NDArray[np.int64], captions: list[int | None], details: list[str]) -> None:
        files, _ = self.source.images.file_and_row(images)
        for row, id_, file, caption_index, detail in zip(
            self.source.rows(images).tolist(), self.source.ids(images), files.tolist(), captions, details, strict=True
        ):
            self.records.append(
                {
                    "row": row,
                    "id": id_,
                    "source": str(self.source.images.files[file]),
                    "kind": kind,
                    "caption_index": caption_index,
                    "reason": Reason.NON_FINITE_EMBEDDING.value,
                    "detail": detail,
                }
            )

    def tables(self) -> Iterator[pa.Table]:
        self.records.sort(key=lambda record: (record["row"], record["kind"] != "image", record["caption_index"] or 0))
        yield pa.Table.from_pylist(self.records, schema=REJECTED)


def _write(
    source: VectorSource, work: Work, start: Started, configuration: dict[str, Any], progress: _Progress
) -> EmbeddingsManifest:
    clock = time.monotonic()
    dataset, token = work.dataset, work.staging.token
    dimension, rejects = source.images.dimension, _Rejects(source)
    kept = list(source.metadata.kept.schema)
    parts = {
        "images": (images_schema(dimension, kept), _image_tables(source, kept, rejects, progress)),
        "captions": (captions_schema(dimension, unknown=True), _caption_tables(source, rejects, progress)),
        "rejected": (REJECTED, rejects.tables()),
    }
    shards = [
        shard for part, (schema, tables) in parts.items() for shard in _write_part(dataset, part, token, schema, tables)
    ]
    rows = {part: sum(shard.rows for shard in shards if shard.part == part) for part in parts}
    kinds = Counter(record["kind"] for record in rejects.records)
    wall = time.monotonic() - clock
    return EmbeddingsManifest(
        model=None,
        dimension=dimension,
        counts=Counts(
            rows=len(source.images),
            images=rows["images"],
            captions=rows["captions"],
            rejected_images=kinds["image"],
            rejected_captions=kinds["caption"],
            rejected_by_reason={Reason.NON_FINITE_EMBEDDING.value: kinds.total()} if kinds else {},
        ),
        configuration=configuration,
        kept_columns=[column.name for column in kept],
        runs=[
            Run(
                started=start.at,
                finished=datetime.now(timezone.utc),
                rows_encoded=0,
                rows_reused=0,
                limited_by="reading and writing",
            )
        ],
        throughput=Throughput(
            wall_seconds=round(wall, 3),
            images_per_second=0.0,
            captions_per_second=0.0,
            images_per_cpu_second=0.0,
            stage_seconds={},
        ),
        software=environment.software(),
        hardware=environment.hardware(),
        inputs_sha256=_write_inputs(source, dataset),
        shards_sha256=write_shards(dataset, shards),
    )


def _image_tables(
    source: VectorSource, kept: list[pa.Field], rejects: _Rejects, progress: _Progress
) -> Iterator[pa.Table]:
    schema = images_schema(source.images.dimension, kept)
    for images in _pieces(len(source.images)):
        vectors, bad = unit_vectors(source.images.take(images))
        places = np.array([index for index, _ in bad], np.int64)
        rejects.add("image", images[places], [None] * len(bad), [why for _, why in bad])
        good = np.delete(np.arange(len(images)), places)
        columns = [
            pa.array(source.rows(images[good])),
            pa.array(source.ids(images[good]), pa.string()),
            pa.nulls(len(good), pa.int32()),
            pa.nulls(len(good), pa.int32()),
            embedding_column(vectors[good]),
            *(column.combine_chunks() for column in source.kept(images[good]).columns),
        ]
        yield pa.Table.from_arrays(columns, schema=schema)
        progress(len(images))


def _caption_tables(source: VectorSource, rejects: _Rejects, progress: _Progress) -> Iterator[pa.Table]:
    schema = captions_schema(source.images.dimension, unknown=True)
    if source.texts is None:
        return
    for piece in _pieces(len(source.order)):
        texts, images, caption_index = source.order[piece], source.image_of[piece], source.caption_index[piece]
        vectors, bad = unit_vectors(source.texts.take(texts))
        places = np.array([index for index, _ in bad], np.int64)
        rejects.add("caption", images[places], caption_index[places].tolist(), [why for _, why in bad])
        good = np.delete(np.arange(len(texts)), places)
        pictures, without = unit_vectors(source.images.take(images[good]))
        scores = pa.array(_cosines(vectors[good], pictures), mask=_marked(len(good), [index for index, _ in without]))
        columns = [
            pa.array(source.rows(images[good])),
            pa.array(source.ids(images[good]), pa.string()),
            pa.array(caption_index[good]),
            pa.array(source.captions(texts[good]), pa.string()),
            embedding_column(vectors[good]),
            scores,
        ]
        yield pa.Table.from_arrays(columns, schema=schema)
        progress(len(texts))


def _pieces(rows: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, rows, _ROWS_AT_ONCE):
        yield np.arange(start, min(start + _ROWS_AT_ONCE, rows))


def _cosines(first: NDArray[np.float16], second: NDArray[np.float16]) -> NDArray[np.float32]:
    """Of pairs of rows as they are stored, 0 where one has no length."""
    one, other = first.astype(np.float32), second.astype(np.float32)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    with np.errstate(invalid="ignore"):
        products = np.einsum("nd,nd->n", one, other)
    result: NDArray[np.float32] = (products / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return result


def _marked(length: int, indices: list[int]) -> NDArray[np.bool_]:
    marked = np.zeros(length, bool)
    marked[indices] = True
    return marked


def _write_part(
    dataset: Location, part: str, token: str, schema: pa.Schema, tables: Iterator[pa.Table]
) -> Iterator[Shard]:
    """Files of about ``ROWS_PER_FILE`` rows; the first is written even when it is empty, for it tells the schema."""
    tables = iter(tables)
    table = next(tables, None)
    for number in range(1 << 62):
        path = f"{part}/part-{number:05d}-{token}.parquet"
        rows, first, last = 0, None, None
        with storage.atomic_writer(dataset / path) as stream, part_writer(stream, schema) as writer:
            while table is not None and rows < ROWS_PER_FILE:
                if table.num_rows:
                    writer.write_table(table)
                    first = table["row"][0].as_py() if first is None else first
                    last = table["row"][-1].as_py()
                    rows += table.num_rows
                table = next(tables, None)
        if rows or number == 0:
            yield describe_shard(dataset, path, part, rows, first, last)
        else:
            storage.remove(dataset / path)
        if table is None:
            return


def _write_inputs(source: VectorSource, dataset: Location) -> str:
    files, _ = source.images.file_and_row(source.image_of)
    captions = np.bincount(files, minlength=len(source.images.files))
    records = []
    for ordinal, file in enumerate(source.images.files):
        status = file.stat()
        records.append(
            {
                "ordinal": ordinal,
                "path": str(file),
                "size": status.st_size,
                "etag": str(status.st_mtime_ns),
                "rows": len(source.images.arrays[ordinal]),
                "captions": int(captions[ordinal]),
                "dead": False,
            }
        )
    return storage.write_table(dataset / INPUTS_FILE, pa.Table.from_pylist(records, schema=INPUTS)).sha256
