"""A CSV or TSV file with a caption per line: the lines of one image become one row."""

import csv
import io
from collections.abc import Iterator
from itertools import chain

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.types as pt

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import ImportSettings
from clipmill.source.importers.samples import Collection, Sample, column_name
from clipmill.source.names import CAPTION_NAMES, IMAGE_NAMES, PATH_NAMES
from clipmill.storage import Location

_DELIMITERS = ",\t;|"
_END = "\0end of file\0"
"""What no file has: it comes back as a line of its own unless a quote is open."""


def read_csv(source: Location, settings: ImportSettings) -> Collection:
    """Images in the order of their first line; other columns keep the value of that line. The text is held in memory.

    Image paths are relative to the folder of the file.
    """
    delimiter, names = csv_header(source)
    image = path_column(names, source, settings.image_column)
    rest = [name for name in names if name != image]
    caption = _column(rest, settings.caption_column, "caption", [CAPTION_NAMES], source)
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


def path_column(names: list[str], source: Location, named: str | None = None) -> str | None:
    """The column with paths of images: the one that is named, else by its name. Raises UserError where several could be it."""
    return _column(names, named, "image", [IMAGE_NAMES | PATH_NAMES[0], *PATH_NAMES[1:]], source)


def csv_header(source: Location) -> tuple[str, list[str]]:
    """Delimiter and column names of a CSV file: comma, tab, semicolon or bar, whichever the first line has most of."""
    try:
        with source.filesystem.open_input_stream(source.path) as stream:
            beginning = stream.read(1 << 16)
    except FileNotFoundError:
        raise UserError(f"{source}: there is no such file") from None
    except OSError:
        raise UserError(f"{source}: this cannot be read as a CSV file; name the file, not its folder") from None
    lines = beginning.decode("utf-8-sig", errors="replace").splitlines()
    if not lines or not lines[0].strip():
        raise UserError(f"{source}: the file has no header line with the names of its columns")
    delimiter = max(_DELIMITERS, key=lines[0].count)
    names = [name.strip().strip('"') for name in lines[0].split(delimiter)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{source}: several columns are called {', '.join(map(repr, repeated))}; rename all but one")
    return delimiter, names


def _column(
    names: list[str], named: str | None, role: str, conventions: list[frozenset[str]], source: Location
) -> str | None:
    option = f"--{role}-column"
    if named is not None:
        if named not in names:
            raise UserError(f"{option} {named}: {source} has no such column; there are {', '.join(map(repr, names))}")
        return named
    for convention in conventions:
        found = [name for name in names if name.lower() in convention]
        if len(found) > 1:
            raise UserError(
                f"{source}: several columns could be the {role}: {', '.join(found)}; say which with {option}"
            )
        if found:
            return found[0]
    return None


def csv_table(source: Location, delimiter: str, names: list[str], text: list[str]) -> pa.Table:
    """The whole file; columns in ``text`` are strings, the types of the others are inferred.

    Raises UserError, naming the line, for lines of another length and for a quote that is not closed.
    """
    _refuse_open_quote(source, delimiter)
    try:
        with source.filesystem.open_input_stream(source.path) as stream:
            return pc.read_csv(
                stream,
                pc.ReadOptions(use_threads=False, column_names=names, skip_rows=1),
                pc.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                pc.ConvertOptions(column_types=dict.fromkeys(text, pa.string())),
            )
    except pa.ArrowInvalid as error:
        raise UserError(f"{source}: {str(error).splitlines()[0]}; put that line right") from None


def _refuse_open_quote(source: Location, delimiter: str) -> None:
    """A quote that is never closed makes one value of the rest of the file, which readers take without a word."""
    line = 1
    with source.filesystem.open_input_stream(source.path) as stream:
        text = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")
        reader = csv.reader(chain(text, ["\n", _END]), delimiter=delimiter)
        try:
            for values in reader:
                if values == [_END]:
                    return
                if not values or not values[-1].endswith(_END):
                    line = reader.line_num + 1
        except csv.Error:
            raise UserError(
                f"{source}: a value in line {line} has more than {csv.field_size_limit()} characters, so a quote that is "
                "opened there is probably not closed; close it, or shorten the value"
            ) from None
    raise UserError(
        f"{source}: a quote that is opened in line {line} is not closed; close it, or write a quote that is meant as "
        'text as "" inside of quotes'
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
