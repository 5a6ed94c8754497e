"""The names of one run over units: which units make up which shard, and the files of both.

A unit's file and a shard's files are named after the plan, so that doing either again overwrites the same names with
the same content: a retried task cannot produce a row twice.

    STAGING/TOKEN/units/00007/000000123.arrow  a unit that is done, waiting for the others of its shard
    STAGING/TOKEN/shards/00007.json            a shard that is done: its files, and its sums
    STAGING/TOKEN/dataset/                     what will be published
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.stage.units.sums import Sums
from clipmill.storage import Location

Number = TypeVar("Number", int, NDArray[np.int64])
AnySums = TypeVar("AnySums", bound=Sums)
ROW_GROUP_ROWS = 8192


@dataclass(frozen=True)
class Part:
    """One kind of file of a dataset: the folder that its files lie in, their schema, and the rows of a row group."""

    name: str
    schema: pa.Schema
    row_group_rows: int = ROW_GROUP_ROWS


@dataclass(frozen=True)
class Layout(Generic[AnySums]):
    """The names of one run: ``units_per_shard`` consecutive units make a shard, which has a file for each of ``parts``.

    ``staging`` is this plan's own folder. ``token`` is part of every part file's name, so that two datasets never share
    one. ``sums`` is what is counted of a unit.
    """

    staging: Location
    token: str
    units: int
    units_per_shard: int
    parts: tuple[Part, ...]
    sums: type[AnySums]

    @property
    def shards(self) -> int:
        return max(1, -(-self.units // self.units_per_shard))

    @property
    def dataset(self) -> Location:
        return self.staging / "dataset"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parts, in order."""
        return tuple(part.name for part in self.parts)

    def shard_of(self, unit: Number) -> Number:
        """The shard that a unit belongs to, or those of an array of units."""
        return unit // self.units_per_shard

    def units_of(self, shard: int) -> range:
        """The units that make up a shard."""
        first = shard * self.units_per_shard
        return range(first, min(first + self.units_per_shard, self.units))

    def unit_folder(self, shard: int) -> Location:
        return self.staging / f"units/{shard:05d}"

    def unit_file(self, unit: int) -> Location:
        return self.unit_folder(self.shard_of(unit)) / f"{unit:09d}.arrow"

    def shard_record(self, shard: int) -> Location:
        return self.staging / f"shards/{shard:05d}.json"

    def part_path(self, part: str, shard: int) -> str:
        """A published file, relative to the dataset."""
        return f"{part}/part-{shard:05d}-{self.token}.parquet"
