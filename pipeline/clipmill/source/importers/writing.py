"""Samples to source Parquet, streamed into files of bounded size and published whole or not at all."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.source.image_files import Rejected, load_image_bytes
from clipmill.source.importers.samples import Collection, Sample
from clipmill.storage import Location

ROW_GROUP_BYTES = 32 << 20
ROW_GROUP_ROWS = 1000
FILE_BYTES = 256 << 20
_READ_AHEAD = 64
_READERS = 8


@dataclass(frozen=True)
class Written:
    """What an import made: samples and captions, and the samples whose image file is missing."""

    samples: int
    captions: int
    missing_images: int
    files: int


def write_samples(
    collection: Collection, output: Location, *, overwrite: bool, progress: Callable[[int], None]
) -> Written:
    """Source Parquet at ``output``: ``id, image: struct<bytes, path>, caption: list<string>`` and the columns.

    A sample whose image is missing keeps its row, with null bytes and the path where the image was looked for. Raises
    UserError when the output holds something already and may not or must not be replaced, or when there is no sample.
    """
    require_free(output, overwrite=overwrite)
    staging = storage.staging_of(output)
    storage.remove(staging)
    try:
        written = _write_parts(collection, staging, progress)
        if not written.samples:
            raise UserError("there is not one sample in the source, so nothing was written")
        storage.publish(staging, output, last=_part_name(written.files - 1))
    finally:
        storage.remove(staging)
    return written


def require_free(output: Location, *, overwrite: bool) -> None:
    """Raises UserError unless nothing is at ``output``, or an earlier import that may be replaced."""
    if storage.holds_only(output, _is_part) and not overwrite:
        raise UserError(f"--output {output} holds Parquet files already; --overwrite replaces them")


def _part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _is_part(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".parquet")


def _write_parts(collection: Collection, staging: Location, progress: Callable[[int], None]) -> Written:
    schema = pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            pa.field("caption", pa.list_(pa.string())),
            *collection.columns,
        ]
    )
    samples = captions = missing = files = file_bytes = 0
    writer: pq.ParquetWriter | None = None
    with ExitStack() as everything, ExitStack() as file:
        pool = everything.enter_context(ThreadPoolExecutor(_READERS))
        for group in _row_groups(_with_bytes(collection.samples, staging, pool)):
            if writer is None or file_bytes >= FILE_BYTES:
                file.close()
                stream = file.enter_context(storage.atomic_writer(staging / _part_name(files)))
                writer = file.enter_context(pq.ParquetWriter(stream, schema, compression="NONE"))
                files, file_bytes = files + 1, 0
            table = _table(group, schema)
            writer.write_table(table)
            file_bytes += table.nbytes
            samples += len(group)
            captions += sum(len(sample.captions) for sample in group)
            missing += sum(sample.image is None for sample in group)
            progress(len(group))
    return Written(samples, captions, missing, files)


def _with_bytes(samples: Iterable[Sample], base: Location, pool: ThreadPoolExecutor) -> Iterator[Sample]:
    """The samples in order, their image files read a few at a time."""
    iterator = iter(samples)
    while ahead := list(islice(iterator, _READ_AHEAD)):
        yield from pool.map(lambda sample: _read(sample, base), ahead)


def _read(sample: Sample, base: Location) -> Sample:
    place = sample.image
    if not isinstance(place, Location):
        return sample
    try:
        data = load_image_bytes(place.uri, base)
    except Rejected:
        return Sample(sample.id, place.uri, None, sample.captions, sample.values)
    return Sample(sample.id, sample.path, data, sample.captions, sample.values)


def _row_groups(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    size = 0
    for sample in samples:
        group.append(sample)
        size += len(sample.image) if isinstance(sample.image, bytes) else 0
        if len(group) >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _table(group: list[Sample], schema: pa.Schema) -> pa.Table:
    columns: list[list[object]] = [
        [sample.id for sample in group],
        [{"bytes": sample.image, "path": sample.path} for sample in group],
        [list(sample.captions) for sample in group],
        *([sample.values[at] for sample in group] for at in range(len(schema) - 3)),
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
