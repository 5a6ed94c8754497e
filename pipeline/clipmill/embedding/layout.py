"""The names of one embed run: which units make up which shard, and the files of both.

A unit's file and a shard's files are named after the plan, so that doing either again overwrites the same names with
the same content: a retried task cannot produce a row twice.

    STAGING/TOKEN/units/00007/000000123.arrow  a unit that is done, waiting for the others of its shard
    STAGING/TOKEN/shards/00007.json            a shard that is done: its files, counts and timings
    STAGING/TOKEN/dataset/                     what will be published
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.core.schemas import REJECTED, captions_schema, images_schema
from clipmill.storage import Location

Number = TypeVar("Number", int, NDArray[np.int64])
PARTS = ("images", "captions", "rejected")


@dataclass(frozen=True)
class Layout:
    """The names of one embed run: ``units_per_shard`` consecutive units make a shard.

    ``staging`` is this plan's own folder. ``token`` is part of every part file's name, so that two datasets never share
    one.
    """

    staging: Location
    token: str
    units: int
    units_per_shard: int
    dimension: int
    kept: tuple[pa.Field, ...] = ()
    thumbnails: bool = False

    @property
    def shards(self) -> int:
        return max(1, -(-self.units // self.units_per_shard))

    @property
    def dataset(self) -> Location:
        return self.staging / "dataset"

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

    def schema(self, part: str) -> pa.Schema:
        """The schema of one part of this dataset."""
        if part == "images":
            return images_schema(self.dimension, self.kept, thumbnails=self.thumbnails, hashes=True)
        return captions_schema(self.dimension) if part == "captions" else REJECTED
