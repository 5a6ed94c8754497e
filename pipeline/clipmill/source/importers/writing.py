"""Samples to source Parquet, streamed into files of bounded size and published whole or not at all."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.manifests import SourceFile, SourceManifest
from clipmill.core.reporter import Reporter
from clipmill.core.schemas import Reason
from clipmill.core.settings import ImportSettings
from clipmill.source.diagnosis import refuse_no_image
from clipmill.source.image_files import ImageFile, Rejected, find_image
from clipmill.source.importers.samples import Collection, Sample
from clipmill.source.written import SourceStage, describe_part, part_name
from clipmill.stage.stage import Made, Work, configuration_differences
from clipmill.storage import Location

ROW_GROUP_BYTES = 32 << 20
ROW_GROUP_ROWS = 1000
FILE_BYTES = 256 << 20
_READ_AHEAD, _READ_BYTES = 64, 32 << 20
"""Images that are asked for at a time, and what those that are read at a time may have together."""
_READERS = 8
_LOG = logging.getLogger(__name__)


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
        unset = dict.fromkeys(self.settings.LATER)
        now = {key: value for key, value in {**unset, **self.configuration}.items() if key != "digest"}
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

    ``read`` gives the collection, and is called only where it is needed. A sample whose image is missing or is no image
    keeps its row, with null bytes and the path where the image was looked for; one whose image lies outside of the source
    keeps its row with null bytes and the path as the source has it. Raises UserError when the output holds something else,
    or when there is no sample.
    """

    def make(staged: Work) -> SourceManifest:
        start, collection = staged.start(), read()
        _tell(reporter, collection, 0)
        images = _Images(_names_images(storage.resolve(work.settings.source)), work.settings.allow_outside or ())
        tell = partial(_tell, reporter, collection)
        files, captions, missing = _write_parts(collection, images, staged.dataset, tell)
        if not files:
            raise UserError(f"{work.settings.source}: there is not one sample in the source, so nothing was written")
        images.warn()
        return work.manifest(start, files, work.configuration, captions=captions, missing=missing)

    return work.run(make)


def _tell(reporter: Reporter, collection: Collection, done: int) -> None:
    reporter.progress("import", done, collection.total, "images")


def _write_parts(
    collection: Collection, images: "_Images", folder: Location, tell: Callable[[int], None]
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
        groups = _row_groups(images.read(collection.samples, pool))
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


def _names_images(source: Location) -> Location:
    """What stands for the file that names the images: itself, or any file in the folder that was given."""
    return source if source.filesystem.get_file_info(source.path).is_file else source / "."


@dataclass
class _Images:
    """Reads image files that ``base`` names, a few at a time, and keeps why those are left out that are."""

    base: Location
    allowed: Sequence[str]
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def read(self, samples: Iterable[Sample], pool: ThreadPoolExecutor) -> Iterator[Sample]:
        """The samples in order with their bytes, without where they cannot be read or are no image."""
        iterator = iter(samples)
        while ahead := _next_few(iterator):
            for some in _of_bounded_size(list(zip(ahead, pool.map(self._find, ahead), strict=True))):
                yield from pool.map(self._with_bytes, some)

    def warn(self) -> None:
        """Says of each reason how many images it left out, and the first of them."""
        for reason, count in sorted(self.left_out.items()):
            _LOG.warning("%s: %s of the images, such as %s", reason.replace("_", " "), f"{count:,}", self.first[reason])

    def _find(self, sample: Sample) -> ImageFile | Rejected | None:
        if not isinstance(sample.image, Location):
            return None
        try:
            return find_image(sample.image.uri, self.base, self.allowed)
        except Rejected as rejected:
            return rejected

    def _with_bytes(self, found: "_Found") -> Sample:
        sample, file = found
        try:
            if isinstance(file, Rejected):
                raise file
            data = file.read() if file else sample.image
            if isinstance(data, bytes):
                refuse_no_image(data)
            return replace(sample, image=data)
        except Rejected as rejected:
            self.left_out[rejected.reason.value] += 1
            self.first.setdefault(rejected.reason.value, f"{sample.path}: {rejected.detail}")
            looked_for = isinstance(sample.image, Location) and rejected.reason != Reason.OUTSIDE_OF_INPUT
            return replace(sample, image=None, path=str(sample.image) if looked_for else sample.path)


def _next_few(samples: Iterator[Sample]) -> list[Sample]:
    """The next samples, fewer where they bring many bytes."""
    few: list[Sample] = []
    size = 0
    while len(few) < _READ_AHEAD and size < _READ_BYTES:
        sample = next(samples, None)
        if sample is None:
            break
        few.append(sample)
        size += len(sample.image) if isinstance(sample.image, bytes) else 0
    return few


_Found = tuple[Sample, ImageFile | Rejected | None]


def _of_bounded_size(found: Sequence[_Found]) -> Iterator[list[_Found]]:
    """Runs of samples whose files are small enough together to be in memory at once; at least one each."""
    some: list[_Found] = []
    size = 0
    for sample, file in found:
        bytes_ = file.size if isinstance(file, ImageFile) else 0
        if some and size + bytes_ > _READ_BYTES:
            yield some
            some, size = [], 0
        some.append((sample, file))
        size += bytes_
    if some:
        yield some


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
