"""How values are written by people: sizes, counts of rows, shares, lists of names. Parsed and checked alike everywhere."""

import math
import os
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictFloat, StrictInt, WithJsonSchema

_SIZES = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    _SIZES[f"{_letter}B"] = 1000**_power
    _SIZES[f"{_letter}iB"] = 1024**_power
_COUNTS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_MOST_FRAMES = 256
_NUMBER = r"(\d+(?:\.\d+)?(?:[eE]\+?\d+)?)"


@dataclass(frozen=True)
class Option:
    """How a setting looks on the command line, where its name, type, default and description do not say it.

    ``name`` replaces the long name (``-k``), ``default`` is how help shows the default, ``argument`` makes it positional.
    A tuple is an option that may be given several times; ``separated``: one text with commas.
    """

    name: str | None = None
    metavar: str | None = None
    default: str | None = None
    argument: bool = False
    separated: bool = False


def parse_bytes(text: str | int) -> int:
    """A size in bytes from text: ``24MB`` is 24·10⁶, ``4GiB`` is 4·2³⁰, a bare number counts bytes.

    Raises ValueError naming the text and the units that are understood.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text) if isinstance(text, str) else None
    if match is None or match.group(2) not in _SIZES:
        raise ValueError(f"{text!r} is not a size: write a number and a unit, such as 24MB or 4GiB")
    return int(float(match.group(1)) * _SIZES[match.group(2)])


def parse_count(text: str | int | float) -> int:
    """A number of rows from text: ``500k``, ``10M``, ``2.5B`` and ``5e9``, or a plain number.

    Raises ValueError naming the text and what is understood, also for a number that is not whole.
    """
    match = re.fullmatch(rf"\s*{_NUMBER}\s*([A-Za-z]?)\s*", text.replace("_", "")) if isinstance(text, str) else None
    count: int | float | None = None
    if match is not None and match.group(2) in _COUNTS:
        number = match.group(1)
        count = (int(number) if number.isdigit() else float(number)) * _COUNTS[match.group(2)]
    elif isinstance(text, int | float) and not isinstance(text, bool):
        count = text
    if count is None or not math.isfinite(count) or count != int(count):
        raise ValueError(f"{text!r} is not a whole number; a letter may follow it, such as 500k, 10M or 5e9")
    return int(count)


def parse_count_or_all(value: Any) -> Any:
    """A number of rows as `parse_count` reads it, 1 at least; the word ``all``, and None, are left. Raises ValueError for
    anything else."""
    if value in (None, "all"):
        return value
    try:
        count = parse_count(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither a number of queries from 1 up (5000, 100k) nor the word all") from None
    if count < 1:
        raise ValueError(f"must be 1 or more, or all; {value!r} was given")
    return count


def none_for_auto(value: Any) -> Any:
    """None for the word ``auto``, anything else as it is."""
    return None if value == "auto" else value


def parse_frames(value: Any) -> Any:
    """A number of pictures of a video, or ``keep``; None is left."""
    if value is None or value == "keep":
        return value
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is neither a number of pictures (8) nor keep") from None
    if not 1 <= number <= _MOST_FRAMES:
        raise ValueError(f"must be from 1 to {_MOST_FRAMES}; {value!r} was given")
    return number


def parse_names(value: Any) -> Any:
    """Names from one text with commas between them, or from a list."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return tuple(value) if isinstance(value, list) else value


def parse_share_or_count(value: Any) -> Any:
    """A share, written with a point (``0.01``) or a percent sign (``1%``), or a whole number.

    Raises ValueError for other text.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.isdigit():
        return int(text)
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a number of rejects (100) nor a share of the rows (0.01, 1%)") from None


def check_rejects(value: int | float | None) -> int | float | None:
    """Raises ValueError for a limit of rejects that is negative, or a share above 1."""
    if value is not None and not value >= 0:
        raise ValueError("cannot be negative")
    if isinstance(value, float) and value > 1:
        raise ValueError("a share lies between 0 and 1 (0.01, or 1%); a number of rejects is written without a point")
    return value


def check_gpus(value: float) -> float:
    """Raises ValueError for a number of GPUs that is neither whole nor a share of one."""
    if value > 1 and value != int(value):
        raise ValueError("a share of one GPU (0.5), or a whole number of them")
    return value


def check_reports(value: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError for fewer than two reports, or one that is given twice."""
    if len(value) < 2:
        raise ValueError(f"give two reports or more to compare; {len(value)} given")
    if len(set(value)) < len(value):
        raise ValueError("the same report is given twice")
    return value


def check_prefixes(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Folders made absolute, since workers have other working directories, and s3:// prefixes; sorted. None for none.

    Raises ValueError for a prefix of another kind or without a bucket.
    """
    found = set()
    for prefix in value or ():
        text = prefix.removeprefix("file://")
        if not text.strip() or ("://" in text and not re.match(r"s3://[^/@?]+(/|$)", text)):
            raise ValueError("give a folder of this machine, or s3://BUCKET/PREFIX")
        inside = text.removeprefix("s3://")
        found.add(f"s3://{os.path.normpath(inside)}" if inside != text else os.path.abspath(os.path.expanduser(text)))
    return tuple(sorted(found)) or None


def parse_workers(value: Any) -> Any:
    """A number of workers, or the fewest and the most with a colon between them (``2:8``), as a pair; None is left."""
    if isinstance(value, int):
        value = str(value)
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    found = re.fullmatch(r"(\d+)(?::(\d+))?", value.strip())
    if not found:
        raise ValueError(f"{value!r} is neither a number of workers (4) nor a range of them (2:8)")
    fewest, most = int(found[1]), int(found[2] or found[1])
    if not 1 <= fewest <= most:
        raise ValueError(f"{value!r}: at least 1, and the fewest first")
    return fewest, most


def parse_span(value: Any) -> Any:
    """Numbers from 0 to 1 in steps, written ``0:1:.1``, as (first, last, step); None is left."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    try:
        first, last, step = (float(part) for part in value.split(":"))
    except ValueError:
        raise ValueError(f"{value!r} is not first:last:step, such as 0:1:.1") from None
    if not (0 <= first <= last <= 1 and step > 0):
        raise ValueError(f"{value!r}: shares lie between 0 and 1, and the step is above 0")
    return first, last, step


def size_text(size: int) -> str:
    """A size as `parse_bytes` reads it, in the largest unit that gives a whole number: ``4GiB``."""
    whole = [unit for unit, bytes_ in _SIZES.items() if size and size % bytes_ == 0]
    return f"{size // _SIZES[unit]}{unit}" if (unit := max(whole, key=_SIZES.__getitem__, default="")) else str(size)


def clock_text(seconds: float) -> str:
    """A time in a film as players show it: ``01:23``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


_POSITIVE = {"type": "integer", "minimum": 1}
_SHARE = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+%?$"}, {"type": "null"}]}

Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    Field(gt=0),
    WithJsonSchema({"anyOf": [_POSITIVE, {"type": "string", "pattern": r"^[0-9.]+ ?([KMGTP]i?)?B?$"}]}),
]
"""A size: 24MB, 4GiB."""

Count = Annotated[
    int,
    BeforeValidator(parse_count),
    Field(ge=1),
    WithJsonSchema({"anyOf": [_POSITIVE, {"type": "string", "pattern": r"^[0-9._]+(e\+?[0-9]+)? ?[kMGBT]?$"}]}),
]
"""A number of rows: 5000, 500k, 10M, 5e9."""

CountOrAll = Annotated[
    int | Literal["all"] | None,
    BeforeValidator(parse_count_or_all),
    WithJsonSchema(
        {
            "anyOf": [
                _POSITIVE,
                {"type": "string", "pattern": r"^(all|[0-9._]+(e\+?[0-9]+)? ?[kMGBT]?)$"},
                {"type": "null"},
            ]
        }
    ),
    Option(metavar="N|all"),
]
"""A number of rows, or all of them; None where nothing is said."""

Workers = Annotated[
    tuple[int, int] | None,
    BeforeValidator(parse_workers),
    WithJsonSchema({"anyOf": [_POSITIVE, {"type": "string", "pattern": r"^[0-9]+(:[0-9]+)?$"}, {"type": "null"}]}),
    Option(separated=True, metavar="N|MIN:MAX"),
]
"""A number of workers, or a range: 4, 2:8."""

Span = Annotated[
    tuple[float, float, float] | None,
    BeforeValidator(parse_span),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"^[0-9.]+:[0-9.]+:[0-9.]+$"}, {"type": "null"}]}),
    Option(separated=True, metavar="FIRST:LAST:STEP"),
]
"""Shares in steps: 0:1:.1."""

Frames = Annotated[
    int | Literal["keep"] | None,
    BeforeValidator(parse_frames),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 256}, {"const": "keep"}, {"type": "null"}]}),
    Option(metavar="N|keep"),
]
"""How many pictures stand for a video, or that each has a vector of its own."""

CountOrAuto = Annotated[
    int | None,
    BeforeValidator(none_for_auto),
    WithJsonSchema({"anyOf": [_POSITIVE, {"const": "auto"}, {"type": "null"}]}),
]
"""A number, or None (written ``auto``), which leaves the choice to the stage."""

Rejects = Annotated[
    StrictInt | StrictFloat | None,
    BeforeValidator(parse_share_or_count),
    AfterValidator(check_rejects),
    WithJsonSchema(_SHARE),
    Option(metavar="N|SHARE"),
]
"""How many rejects are too many: an int counts them, a float is their share of the rows."""

Share = Annotated[float | None, BeforeValidator(parse_share_or_count), WithJsonSchema(_SHARE)]
"""A share of rows: 0.2 or 20%."""

Names = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(parse_names),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}, {"type": "null"}]}),
    Option(separated=True),
]
"""Names: a list, or one text with commas."""

Numbers = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...] | None,
    BeforeValidator(parse_names),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}, {"type": "null"}]}),
    Option(separated=True, metavar="N,N,…"),
]
"""Whole numbers from 1 up: a list, or one text with commas."""

Prefixes = Annotated[tuple[str, ...] | None, AfterValidator(check_prefixes), Option(metavar="PREFIX")]
"""Folders and s3:// prefixes, absolute; None where there is none."""

Gpus = Annotated[float, AfterValidator(check_gpus)]
"""A number of GPUs: whole, or a share of one."""
