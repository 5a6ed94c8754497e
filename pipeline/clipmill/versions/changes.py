"""Which files of the input are new, changed or gone since a version was made, and the ordinals that they have.

Of a listed folder that is told picture by picture: those that are new or were changed are a listing of their own, with an
ordinal that nothing had before, and those that are gone are rows that are left out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.schemas import LISTING, MAX_FILES, ORDINAL_SHIFT
from clipmill.datasets.manifests import INPUTS_FILE, Embeddings
from clipmill.source.input_file import InputFile
from clipmill.source.listed import of_listing

Rows = NDArray[np.int64]


def _no_rows() -> Rows:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Changes:
    """``known`` are the lines of ``inputs.parquet`` of the version before; ``files`` the input as it is now, in order of
    ordinals: a file has the one it had if path, size and version are the same, else one that nothing had before.

    ``gone`` are rows of files that are still there whose pictures are not, ascending; ``of_pictures``: whether a folder was
    listed.
    """

    known: list[Mapping[str, Any]]
    files: list[InputFile]
    gone: Rows = field(default_factory=_no_rows)
    of_pictures: bool = False

    @cached_property
    def _alive(self) -> frozenset[int]:
        return frozenset(file.ordinal for file in self.files)

    @cached_property
    def _before(self) -> frozenset[int]:
        return frozenset(record["ordinal"] for record in self.known)

    @cached_property
    def new(self) -> list[InputFile]:
        """Files that were not there, or were others."""
        return [file for file in self.files if file.ordinal not in self._before]

    @cached_property
    def dead(self) -> frozenset[int]:
        """Ordinals of files that were there and are no more, or are others now."""
        return frozenset(record["ordinal"] for record in self.known if not record["dead"]) - self._alive

    @property
    def used(self) -> int:
        """Ordinals below this one belong to files of this version or of one before."""
        return 1 + max([*self._alive, *self._before], default=-1)

    @property
    def summary(self) -> str:
        """What has changed, in words."""
        if not self.of_pictures:
            kept = len(self.files) - len(self.new)
            return f"{len(self.new):,} files new or changed, {len(self.dead):,} gone, {kept:,} as before"
        new, all_rows = (sum(file.rows for file in files) for files in (self.new, self.files))
        dead = sum(record["rows"] for record in self.known if record["ordinal"] in self.dead)
        return (
            f"{new:,} pictures new or changed, {dead + len(self.gone):,} gone or changed, {all_rows - new:,} as before"
        )

    def lines(self, made: Sequence[Mapping[str, Any]], captions_gone: Mapping[int, int]) -> list[dict[str, Any]]:
        """``inputs.parquet`` of the next version: ``made`` are the lines of what was embedded for it, ``captions_gone`` the
        captions of rows that are gone, by ordinal."""
        rows_gone = Counter((self.gone >> ORDINAL_SHIFT).tolist())
        lines = {}
        for record in self.known:
            ordinal = record["ordinal"]
            less = {
                "rows": record["rows"] - rows_gone[ordinal],
                "captions": record["captions"] - captions_gone.get(ordinal, 0),
            }
            lines[ordinal] = {**record, **less, "dead": ordinal not in self._alive}
        for file in self.files:
            if file.ordinal not in lines:
                nothing = {"ordinal": file.ordinal, "path": file.path, "size": file.size, "etag": file.etag}
                lines[file.ordinal] = {**nothing, "rows": 0, "captions": 0, "dead": False}
        lines |= {record["ordinal"]: dict(record) for record in made}
        return [lines[ordinal] for ordinal in sorted(lines)]


def changes_since(
    base: Embeddings | None, inputs: Sequence[InputFile], used: int = 0, *, anew: bool = False
) -> Changes:
    """What has changed since ``base``; ordinals below ``used`` belong to files of other versions. With ``anew`` all rows are
    encoded again, so a folder that changed is listed as a whole. Raises UserError when there are no ordinals left."""
    known = storage.read_table(base.location / INPUTS_FILE).to_pylist() if base else []
    ordinals = {
        (record["path"], record["size"], record["etag"]): record["ordinal"] for record in known if not record["dead"]
    }
    following = max([used, *(record["ordinal"] + 1 for record in known)])
    files: list[InputFile] = []
    gone = [_no_rows()]
    for file in sorted(inputs, key=lambda file: file.path.encode()):
        if file.listing is not None and base is not None and base.listing is not None and not anew:
            there = _listed_before(base.listing, known, file.path)
            new, lost = _compared(file, there)
            files += _still_there(file, known, there, lost)
            gone.append(lost)
            if new is not None:
                files.append(replace(new, ordinal=following))
                following += 1
            continue
        ordinal = ordinals.get((file.path, file.size, file.etag))
        if ordinal is None:
            ordinal, following = following, following + 1
        files.append(replace(file, ordinal=ordinal))
    if following > MAX_FILES:
        raise UserError(
            f"over all versions there were more than {MAX_FILES} source files, which is all that row numbers have room "
            "for; publish to a new output, and write fewer and larger files"
        )
    alive = {file.ordinal for file in files}
    rows = np.sort(np.concatenate(gone))
    rows = rows[np.isin(rows >> ORDINAL_SHIFT, list(alive))]  # of a file that is dead no row is there anyway
    of_pictures = any(file.listing is not None for file in inputs)
    return Changes(known, sorted(files, key=lambda file: file.ordinal), rows, of_pictures)


def _listed_before(listing: pa.Table, known: Sequence[Mapping[str, Any]], path: str) -> pa.Table:
    """The pictures of this folder that the version before has."""
    alive = [record["ordinal"] for record in known if record["path"] == path and not record["dead"]]
    ordinals = pc.shift_right(listing.column("row"), ORDINAL_SHIFT)
    return listing.filter(pc.is_in(ordinals, value_set=pa.array(alive, pa.int64())))


def _compared(file: InputFile, before: pa.Table) -> tuple[InputFile | None, Rows]:
    """A listing of the pictures that are new or changed, None without any; and the rows of those gone or changed."""
    assert file.listing is not None
    assert file.listed is not None
    keys = [tuple(one) for one in zip(*(before.column(name).to_pylist() for name in LISTING.names[1:]), strict=True)]
    row_of = dict(zip(keys, before.column("row").to_pylist(), strict=True))
    now = zip(*(file.listing.column(name).to_pylist() for name in LISTING.names[1:]), strict=True)
    fresh = [at for at, one in enumerate(now) if row_of.pop(tuple(one), None) is None]
    lost = np.sort(np.fromiter(row_of.values(), np.int64, len(row_of)))
    if not fresh:
        return None, lost
    at = pa.array(fresh, pa.int64())
    listing = file.listing.take(at).set_column(0, LISTING.field("row"), pa.array(np.arange(len(fresh))))
    return of_listing(file.path, file.listed.take(at), listing), lost


def _still_there(file: InputFile, known: Sequence[Mapping[str, Any]], before: pa.Table, lost: Rows) -> list[InputFile]:
    """The older listings of a folder that have pictures which are still there, with the number of these."""
    ordinals = before.column("row").to_numpy() >> ORDINAL_SHIFT
    counts = Counter(ordinals.tolist())
    counts.subtract((lost >> ORDINAL_SHIFT).tolist())
    kept = []
    for record in known:
        rows = counts[record["ordinal"]]
        if rows > 0:
            kept.append(
                replace(
                    file,
                    ordinal=record["ordinal"],
                    size=record["size"],
                    etag=record["etag"],
                    rows=rows,
                    row_group_rows=(rows,),
                    row_group_bytes=(record["size"],),
                    schema=pa.schema([]),
                    listed=None,
                    listing=None,
                )
            )
    return kept
