"""Where `clipmill run` publishes what it makes of an input, where nobody says: beside it, and never inside."""

import os
import shlex
from pathlib import Path

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.datasets.manifests import PUBLISHED_SUFFIX
from clipmill.runs.places import not_writable
from clipmill.source.formats import SUFFIXES
from clipmill.source.names import PARQUET_SUFFIXES, TABLE_SUFFIXES

FILE_SUFFIXES = (*PARQUET_SUFFIXES, *SUFFIXES, *TABLE_SUFFIXES)
"""What names of files end with that are inputs themselves."""
_WILDCARDS = "*?["


def output_for(source: str, output: str | None) -> str:
    """The place of what is made of ``source``: ``output``, else NAME.clipmill beside it, named as the user names the input.

    Raises UserError, with what to type, for a place inside the input, one that cannot be written to, and an input that has
    nothing beside it.
    """
    place = output.rstrip("/") if output else _beside(source)
    base = folder_of(source)
    if base is not None and _is_inside(place, base):
        elsewhere = shlex.quote(_elsewhere(source))
        raise UserError(
            f"{place} lies inside the input {source}, and would be read as a part of it the next time; type: clipmill run "
            f"{shlex.quote(source)} --output {elsewhere}"
        )
    if wrong := not_writable(place):
        home = f"~/{os.path.basename(_elsewhere(source))}"
        raise UserError(f"{place}: {wrong}; type: clipmill run {shlex.quote(source)} --output {home}")
    return place


def folder_of(source: str) -> str | None:
    """The folder or prefix that is read, of a pattern the one before its wildcards; None for an input that is one file."""
    fixed = _without_pattern(source)
    if fixed == source and not source.startswith("s3://") and not Path(source).expanduser().is_dir():
        return None
    return None if fixed.lower().endswith(FILE_SUFFIXES) and fixed.startswith("s3://") else fixed


def _beside(source: str) -> str:
    fixed = _without_pattern(source).rstrip("/")
    scheme, _, inside = fixed.rpartition("://")
    if (scheme and "/" not in inside) or not fixed:
        raise UserError(
            f"{source} has nothing beside it; type: clipmill run {shlex.quote(source)} --output "
            f"{'s3://BUCKET/PREFIX' if scheme else '~/all' + PUBLISHED_SUFFIX}"
        )
    if not scheme and os.path.basename(fixed) in (".", ".."):
        fixed = os.path.abspath(fixed)
    suffix = next((one for one in FILE_SUFFIXES if fixed.lower().endswith(one)), "")
    return fixed[: len(fixed) - len(suffix)] + PUBLISHED_SUFFIX


def _elsewhere(source: str) -> str:
    """A place that is good where the one that was given is not."""
    try:
        return _beside(source)
    except UserError:
        return f"out{PUBLISHED_SUFFIX}"


def _is_inside(place: str, base: str) -> bool:
    one, other = _real(place), _real(base)
    return one == other or one.startswith(other.rstrip("/") + "/")


def _real(uri: str) -> str:
    location = storage.resolve(uri)
    return os.path.realpath(location.path) if location.is_local else location.uri.rstrip("/")


def _without_pattern(source: str) -> str:
    """The leading folders of a pattern; anything else as it is."""
    parts = source.split("/")
    first = next((at for at, part in enumerate(parts) if any(sign in part for sign in _WILDCARDS)), None)
    if first is None or (not source.startswith("s3://") and Path(source).expanduser().exists()):
        return source
    return "/".join(parts[:first]) or ("/" if source.startswith("/") else ".")
