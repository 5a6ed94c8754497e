"""Samples to source Parquet, streamed into files of bounded size and published whole or not at all."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.manifests import SourceFile, SourceManifest
from clipmill.core.reporter import Reporter
from clipmill.core.settings import ImportSettings
from clipmill.source.image_files import Rejected, load_image_bytes
from clipmill.source.importers.samples import Collection, Sample
from clipmill.source.written import SourceStage, describe_part, part_name
from clipmill.stage.stage import Made, Work, configuration_differences
from clipmill.storage import Location

ROW_GROUP_BYTES = 32 << 20
ROW_GROUP_ROWS = 1000
FILE_BYTES = 256 << 20
_READ_AHEAD = 64
_READERS = 8


@dataclass(frozen=True)
class Import(SourceStage):
    """Another format to be brought into source Parquet, fixed before it is read. ``digest`` is over the names, sizes and
    times of the files of ``source``."""

    name = "import"
    continues = False
    settings: ImportSettings
    form: str
    digest: str

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the content, as it is written to the manifest."""
        return {"format": self.form, "source": self.settings.source, **self.settings.content(), "digest": self.digest}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the content."""
        return {"stage": self.name, "settings": self.configuration}

    def differences(self, found: SourceManifest) -> list[str]:
        """How source Parquet at the output differs from what this import makes, in words."""
        now = {key: value for key, value in self.configuration.items() if key != "digest"}
        told = configuration_differences(found.configuration, now)
        if not told and found.configuration.get("digest") != self.digest:
            told.append(f"the files of {self.settings.source} have changed since")
        return told


def make_import(form: str, settings: ImportSettings) -> Import:
    """An import of ``form`` (a key of `IMPORTERS`). Raises UserError where there is no such source."""
    source = storage.resolve(settings.source)
    info = source.filesystem.get_file_info(source.path)
    files = [info] if info.is_file else storage.list_input(source)
    digest = hashlib.sha256()
    for file in files:
        digest.update(json.dumps([file.path, file.size, file.mtime_ns]).encode())
    return Import(settings, form, digest.hexdigest())


def write_samples(work: Import, read: Callable[[], Collection], reporter: Reporter) -> Made[SourceManifest]:
    """Source Parquet at the output: ``id, image: struct<bytes, path>, caption: list<string>`` and the columns.

    ``read`` gives the collection, and is called only where it is needed. A sample whose image is missing keeps its row,
    with null bytes and the path where the image was looked for. Raises UserError when the output holds something else,
    or when there is no sample.
    """

    def make(staged: Work) -> SourceManifest:
        start, collection = staged.start(), read()
        _tell(reporter, collection, 0)
        files, captions, missing = _write_parts(collection, staged.dataset, partial(_tell, reporter, collection))
        if not files:
            raise UserError(f"{work.settings.source}: there is not one sample in the source, so nothing was written")
        return work.manifest(start, files, work.configuration, captions=captions, missing=missing)

    return work.run(make)


def _tell(reporter: Reporter, collection: Collection, done: int) -> None:
    reporter.progress("import", done, collection.total, "images")


def _write_parts(
    collection: Collection, folder: Location, tell: Callable[[int], None]
) -> tuple[list[SourceFile], int, int]:
    """The files, the captions in them, and the images that are missing. ``tell`` is given the number of samples so far."""
    schema = pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            pa.field("caption", pa.list_(pa.string())),
            *collection.columns,
        ]
    )
    files: list[SourceFile] = []
    samples = captions = missing = 0
    with ThreadPoolExecutor(_READERS) as pool:
        groups = _row_groups(_with_bytes(collection.samples, folder, pool))
        group = next(groups, None)
        while group is not None:
            name, rows, size = part_name(len(files)), 0, 0
            with (
                storage.atomic_writer(folder / name) as stream,
                pq.ParquetWriter(stream, schema, compression="NONE") as writer,
            ):
                while group is not None and size < FILE_BYTES:
                    table = _table(group, schema)
                    writer.write_table(table)
                    rows, size = rows + table.num_rows, size + table.nbytes
                    captions += sum(len(sample.captions) for sample in group)
                    missing += sum(sample.image is None for sample in group)
                    tell(samples + rows)
                    group = next(groups, None)
            files.append(describe_part(name, rows, stream.written))
            samples += rows
    return files, captions, missing


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
