"""A CSV or TSV file with a caption per line: the lines of one image become one row."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.types as pt

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import ImportSettings
from clipmill.source.csv_text import caption_column, csv_header, csv_table, path_column
from clipmill.source.importers.samples import Collection, Sample, column_name
from clipmill.storage import Location


def read_csv(source: Location, settings: ImportSettings) -> Collection:
    """Images in the order of their first line; other columns keep the value of that line. The text is held in memory.

    Image paths are relative to the folder of the file.
    """
    delimiter, names = csv_header(source)
    image = path_column(names, source, settings.image_column)
    rest = [name for name in names if name != image]
    caption = caption_column(rest, source, settings.caption_column)
    if image is None:
        raise UserError(
            f"{source}: no column of image paths among {', '.join(map(repr, names))}; name it with --image-column"
        )
    table = csv_table(source, delimiter, names, [name for name in (image, caption) if name])
    extra = [name for name in table.column_names if name not in (image, caption)]
    groups: dict[str | None, list[int]] = {}
    for line, path in enumerate(table.column(image).to_pylist()):
        groups.setdefault(path or None, []).append(line)
    _refuse_urls(groups, source)
    return Collection(
        columns=tuple(pa.field(column_name(name), _plain(table.schema.field(name).type)) for name in extra),
        samples=_samples(source, table, groups, caption, extra),
        total=len(groups),
    )


def _refuse_urls(groups: dict[str | None, list[int]], source: Location) -> None:
    for path in groups:
        if path and path.lower().startswith(("http://", "https://")):
            raise UserError(
                f"{source} names images by web address ({path}), and clipmill does not download: fetch them with "
                "img2dataset (output_format=parquet), and embed what it writes"
            )


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pt.is_null(kind) else kind


def _samples(
    source: Location, table: pa.Table, groups: dict[str | None, list[int]], caption: str | None, extra: list[str]
) -> Iterator[Sample]:
    captions = table.column(caption).to_pylist() if caption else None
    columns = [table.column(name).to_pylist() for name in extra]
    for path, lines in groups.items():
        yield Sample(
            id=path or f"{source.name}:{lines[0] + 1}",
            path=path or "",
            image=_place(source, path) if path else None,
            captions=tuple(captions[line] or None for line in lines) if captions else (),
            values=tuple(values[lines[0]] for values in columns),
        )


def _place(source: Location, path: str) -> Location:
    if path.startswith(("/", "~", "s3://", "file://")):
        return storage.resolve(path)
    return source.sibling(path)
