"""The `.npy` files of an index: their headers, and their rows a block at a time with no more than that in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from clipmill.datasets.shards import Shard
from clipmill.storage import Location
from clipmill.verification.findings import Findings


@dataclass(frozen=True)
class ArrayFile:
    """A header: ``shape`` and ``dtype`` of the array, and the byte where it begins."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def bytes(self) -> int:
        """The size that the file must have."""
        return self.offset + int(np.prod(self.shape)) * self.dtype.itemsize

    def block(self, path: Path, start: int, rows: int) -> NDArray[Any]:
        """Rows ``start`` to ``start + rows`` − 1 of the local file."""
        width = int(np.prod(self.shape[1:]))
        values = np.fromfile(path, self.dtype, rows * width, offset=self.offset + start * width * self.dtype.itemsize)
        return values.reshape(-1, *self.shape[1:])


def read_header(location: Location) -> ArrayFile:
    """The header of an `.npy` file. Raises ValueError when it is none that this project writes."""
    with location.filesystem.open_input_file(location.path) as stream:
        if np.lib.format.read_magic(cast(BinaryIO, stream)) != (1, 0):
            raise ValueError("it is of another version than 1.0")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(cast(BinaryIO, stream))
        if fortran_order:
            raise ValueError("it is in Fortran order")
        return ArrayFile(shape, dtype, stream.tell())


def check_header(
    location: Location, shard: Shard, dtype: str, shape: tuple[int, ...], findings: Findings
) -> ArrayFile | None:
    """The header of the shard's array; None, with a fault, when it is not of this type, shape and size."""
    try:
        array = read_header(location)
    except (ValueError, OSError) as error:
        findings.fault(f"{shard.path} is not a readable .npy array: {str(error).splitlines()[0]}")
        return None
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        findings.fault(f"{shard.path} holds {array.dtype} of shape {array.shape} and should hold {dtype} of {shape}")
        return None
    if array.bytes != shard.bytes:
        findings.fault(f"{shard.path} has {shard.bytes} bytes, but an array of {array.bytes} bytes by its header")
        return None
    return array


def check_ends(location: Location, shard: Shard, array: ArrayFile, findings: Findings) -> bool:
    """Whether a row array begins and ends with the rows it should; reads these two."""
    with location.filesystem.open_input_file(location.path) as stream:
        ends = [stream.read_at(8, array.offset + at * 8) for at in (0, array.shape[0] - 1)]
    first, last = (int.from_bytes(end, "little", signed=True) for end in ends)
    if (first, last) == (shard.first_row, shard.last_row):
        return True
    findings.fault(
        f"{shard.path} holds the rows {first} to {last} and should hold {shard.first_row} to {shard.last_row}: it is "
        "another file under this name"
    )
    return False
