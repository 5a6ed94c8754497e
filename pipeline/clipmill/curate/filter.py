"""Filtering: each image row of a dataset is kept, or dropped with all the reasons there are. In one pass, in order."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core import environment
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.manifests import DuplicatesManifest, Run, SelectionManifest
from clipmill.core.reporter import Reporter
from clipmill.core.schemas import selection_schema
from clipmill.core.settings import FilterSettings
from clipmill.curate.captions import CaptionsByRow
from clipmill.curate.prompts import Prompt
from clipmill.curate.published import GROUPS_FILE
from clipmill.datasets.expressions import Expression
from clipmill.datasets.manifests import MANIFEST, Embeddings, read_manifest, vectors_of
from clipmill.datasets.shards import Shard, describe_shard, write_shards
from clipmill.index.build.gallery import Gallery
from clipmill.stage.derived import differences_of_derived
from clipmill.stage.kinds import SELECTION
from clipmill.stage.stage import Stage, Work
from clipmill.storage import Location

KEPT, DROPPED = "kept", "dropped"
PART_ROWS = 1 << 20
_BATCH_ROWS = 16_384
Encode = Callable[[list[str]], NDArray[np.float32]]
Condition = tuple[str, Callable[[pa.Table], NDArray[np.bool_]]]
"""A reason to drop a row, and which rows of a batch do not have it."""


@dataclass(frozen=True)
class Filter(Stage[SelectionManifest]):
    """What is to be kept, fixed before it starts."""

    name = "filter"
    kind = SELECTION
    continues = False
    settings: FilterSettings
    gallery: Gallery
    prompts: list[Prompt]
    duplicates: Location | None
    duplicates_sha256: str | None
    where: Expression | None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides which rows are kept."""
        return {
            "embeddings": self.gallery.dataset.manifest_sha256,
            "duplicates": self.duplicates_sha256,
            "configuration": self.settings.content(),
            "job": "filter",
        }

    def differences(self, found: SelectionManifest) -> list[str]:
        """How a selection at the output differs from what this makes, in words."""
        inputs = {"duplicates_manifest_sha256": self.duplicates_sha256}
        return differences_of_derived(found, self.settings.content(), self.gallery.dataset.manifest_sha256, inputs)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of what is kept."""
        like = self.gallery.open_file(0).schema_arrow
        kept = [like.field(name) for name in self.gallery.kept_columns]
        return selection_schema(kept, len(self.prompts))


def make_filter(settings: FilterSettings) -> Filter:
    """Opens what is to be filtered. Raises UserError for conditions that it does not allow, before any work."""
    if not (images := Embeddings.open(settings.embeddings)).count("images"):
        raise UserError(
            f"{images.location} has no images, and filter keeps and drops images: embed some, or use `clipmill dedup`"
        )
    gallery = Gallery(images, "images")
    prompts = [Prompt.parse(given) for given in settings.prompt]
    if settings.min_clip_score is None and not prompts and not settings.duplicates and not settings.where:
        raise UserError("nothing to filter by: give --min-clip-score, --prompt, --duplicates or --where")
    if settings.min_clip_score is not None and not gallery.dataset.count("captions"):
        raise UserError(f"--min-clip-score: {settings.embeddings} has no captions, so its images have no clip score")
    if prompts and gallery.dataset.manifest.model is None:
        raise UserError(
            f"--prompt: {settings.embeddings} was made of imported vectors, so which model encodes a text is not known"
        )
    duplicates, digest = None, None
    if settings.duplicates is not None:
        duplicates = storage.resolve(settings.duplicates)
        digest = _check_duplicates(duplicates, gallery)
    made = Filter(settings, gallery, prompts, duplicates, digest, None)
    if settings.where is None:
        return made
    return replace(made, where=Expression.parse(settings.where, made.schema, "--where"))


def _check_duplicates(location: Location, gallery: Gallery) -> str:
    manifest = read_manifest(location, DuplicatesManifest)
    if manifest.gallery != "images":
        raise UserError(f"--duplicates {location} are of {manifest.gallery}; rows are dropped by duplicates of images")
    if manifest.embeddings_manifest_sha256 != gallery.dataset.manifest_sha256:
        raise UserError(
            f"--duplicates {location} were found in {manifest.embeddings}, or before it was made anew, and not in "
            f"{gallery.dataset.location}; run `clipmill dedup` on these embeddings"
        )
    return storage.sha256(location / MANIFEST)


def run_filter(filter_: Filter, work: Work, encode: Encode, reporter: Reporter) -> SelectionManifest:
    """Filters all rows and returns the manifest. ``encode`` gives unit vectors of texts and is called only where there are
    prompts.

    Memory holds a batch of rows, and the numbers of the rows that are duplicates of others.
    """
    start, done = work.start(), 0
    reporter.progress(filter_.name, 0, filter_.gallery.n, "rows")
    conditions = _conditions(filter_)
    counts = dict.fromkeys((reason for reason, _ in conditions), 0)
    kept, dropped = _Part(filter_, KEPT), _Part(filter_, DROPPED)
    with ExitStack() as stack:
        for part in (kept, dropped):
            stack.enter_context(part)
        for table, why in _judged(filter_, conditions, encode):
            for row_reasons in why:
                for reason in row_reasons:
                    counts[reason] += 1
            fails = pa.array([bool(reasons) for reasons in why], pa.bool_())
            kept.write(table.filter(pc.invert(fails)))
            dropped.write(table.append_column("why", pa.array(why, pa.list_(pa.string()))).filter(fails))
            done += table.num_rows
            reporter.progress(filter_.name, done, filter_.gallery.n, "rows")
    dataset = filter_.gallery.dataset
    manifest = SelectionManifest(
        rows=kept.rows + dropped.rows,
        kept=kept.rows,
        dropped=dropped.rows,
        dropped_by_reason=counts,
        prompts=[prompt.text for prompt in filter_.prompts],
        configuration=filter_.settings.content(),
        embeddings=dataset.location.uri,
        embeddings_manifest_sha256=dataset.manifest_sha256,
        duplicates_manifest_sha256=filter_.duplicates_sha256,
        shards_sha256=write_shards(work.dataset, [*kept.shards, *dropped.shards]),
        runs=[
            *start.earlier,
            Run(started=start.at, finished=datetime.now(timezone.utc), rows_encoded=filter_.gallery.n, rows_reused=0),
        ],
        software=environment.software(),
        hardware=environment.hardware(),
    )
    if manifest.rows != filter_.gallery.n:
        raise RunFailed(f"{dataset.location} holds {manifest.rows} images and not {filter_.gallery.n}; verify it")
    return manifest


def _conditions(work: Filter) -> list[Condition]:
    conditions: list[Condition] = []
    least = work.settings.min_clip_score
    if least is not None:
        bound = np.float32(least)
        conditions.append((f"clip_score below {least:g}", lambda table: _floats(table, "clip_score") >= bound))
    for number, prompt in enumerate(work.prompts, start=1):
        if prompt.sign is not None:
            conditions.append((prompt.reason, _bounded(prompt, f"cosine_{number}")))
    if work.duplicates is not None:
        duplicates = _rows_to_drop(work.duplicates)
        conditions.append(("duplicate", lambda table: ~np.isin(table.column("row").to_numpy(), duplicates)))
    if work.where is not None:
        where = work.where
        conditions.append((f"not where {where.text}", where.mask))
    return conditions


def _bounded(prompt: Prompt, column: str) -> Callable[[pa.Table], NDArray[np.bool_]]:
    return lambda table: prompt.keeps(_floats(table, column))


def _floats(table: pa.Table, column: str) -> NDArray[np.float32]:
    """A column in which nothing reaches nothing: null is NaN, which no bound keeps."""
    values: NDArray[np.float32] = table.column(column).to_numpy(zero_copy_only=False)
    return values.astype(np.float32)


def _rows_to_drop(duplicates: Location) -> NDArray[np.int64]:
    groups = storage.read_table(duplicates / GROUPS_FILE)
    rows: NDArray[np.int64] = groups.filter(pc.invert(groups.column("kept"))).column("row").to_numpy()
    return np.sort(rows)


def _judged(work: Filter, conditions: list[Condition], encode: Encode) -> Iterator[tuple[pa.Table, list[list[str]]]]:
    """Batches of rows with the columns of what is kept, and for each row the reasons to drop it."""
    vectors = encode([prompt.text for prompt in work.prompts]) if work.prompts else None
    gallery = work.gallery
    captions = CaptionsByRow(gallery.dataset)
    columns = ["row", "id", "width", "height", *gallery.kept_columns]
    for batch in gallery.batches(0, gallery.n, [*columns, *(["embedding"] if work.prompts else [])], _BATCH_ROWS):
        rows = batch.column("row").to_numpy()
        values = dict(zip(columns, (batch.column(name) for name in columns), strict=True))
        values["captions"], values["clip_score"] = captions.of(rows)
        if vectors is not None:
            cosines = vectors_of(batch.column("embedding")).astype(np.float32) @ vectors.T
            values |= {f"cosine_{number}": pa.array(column) for number, column in enumerate(cosines.T, start=1)}
        table = pa.table(list(values.values()), schema=work.schema)
        keeps = [(reason, condition(table)) for reason, condition in conditions]
        yield table, [[reason for reason, kept in keeps if not kept[row]] for row in range(table.num_rows)]


class _Part:
    """The files of one part, begun anew every PART_ROWS rows; at least one is written, so that its columns are known."""

    def __init__(self, work: Filter, name: str) -> None:
        self._dataset = work.staging.dataset
        self._name = name
        why = [pa.field("why", pa.list_(pa.string()), nullable=False)]
        self._schema = work.schema if name == KEPT else pa.schema([*work.schema, *why])
        self._ends: list[int] = []
        self._rows_here = 0
        self.rows = 0
        self.shards: list[Shard] = []

    def __enter__(self) -> "_Part":
        self._open()
        return self

    def write(self, table: pa.Table) -> None:
        """Adds rows, which come in order."""
        if not table.num_rows:
            return
        if self._rows_here and self._rows_here + table.num_rows > PART_ROWS:
            self._close()
            self._open()
        self._writer.write_table(table.cast(self._schema))
        rows = table.column("row")
        self._ends += [rows[0].as_py(), rows[-1].as_py()]
        self._rows_here += table.num_rows
        self.rows += table.num_rows

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            self._close()
        else:
            self._stack.__exit__(kind, error, trace)

    def _open(self) -> None:
        self._path = f"{self._name}/part-{len(self.shards):05d}.parquet"
        self._stack = ExitStack()
        self._stream = self._stack.enter_context(storage.atomic_writer(self._dataset / self._path))
        self._writer = self._stack.enter_context(pq.ParquetWriter(self._stream, self._schema, compression="zstd"))
        self._ends, self._rows_here = [], 0

    def _close(self) -> None:
        self._stack.close()
        first, last = (self._ends[0], self._ends[-1]) if self._ends else (None, None)
        written = self._stream.written
        self.shards.append(describe_shard(self._dataset, self._path, self._name, self._rows_here, first, last, written))
