"""CSV and TSV files: their delimiter, the columns that matter, and all of their rows."""

import csv
import io
from itertools import chain

import pyarrow as pa
import pyarrow.csv as pc

from clipmill.core.errors import UserError
from clipmill.source.names import CAPTION_NAMES, IMAGE_NAMES, PATH_NAMES
from clipmill.storage import Location

_DELIMITERS = ",\t;|"
_END = "\0end of file\0"
"""What no file has: it comes back as a line of its own unless a quote is open."""


def path_column(names: list[str], source: Location, named: str | None = None) -> str | None:
    """The column with paths of images: the one that is named, else by its name. Raises UserError where several could be it."""
    return _column(names, named, "image", [IMAGE_NAMES | PATH_NAMES[0], *PATH_NAMES[1:]], source)


def caption_column(names: list[str], source: Location, named: str | None = None) -> str | None:
    """The column with captions, as `path_column`."""
    return _column(names, named, "caption", [CAPTION_NAMES], source)


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
        if "Could not skip" in str(error):
            raise UserError(f"{source}: there is not one row in this file, only the line with its columns") from None
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
