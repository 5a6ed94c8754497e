"""Vectors in .npy files, one or a folder of them in natural order, seen as one array and read in pieces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.storage import Location

_MAGIC = b"\x93NUMPY"


def natural_order(name: str) -> list[int | str]:
    """A sort key by which file_2 comes before file_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def files_of(uri: str, suffixes: tuple[str, ...], option: str) -> list[Location]:
    """A file, or the files of a folder with one of these endings, in natural order."""
    place = storage.resolve(uri)
    if not storage.exists(place):
        raise UserError(f"{option} {uri}: there is no such file or folder")
    if place.filesystem.get_file_info(place.path).is_file:
        return [place]
    names = [info.base_name for info in storage.list_input(place, recursive=False)]
    chosen = sorted((name for name in names if name.lower().endswith(suffixes)), key=natural_order)
    if not chosen:
        raise UserError(
            f"{option} {uri}: no {' or '.join(suffixes)} file is among the {len(names)} files of this folder"
        )
    return [place / name for name in chosen]


@dataclass(frozen=True)
class VectorFiles:
    """(n, d) floating point vectors in memory-mapped files; ``starts`` has the first row of each file, and n."""

    files: tuple[Path, ...]
    arrays: tuple[NDArray[np.floating], ...]
    starts: tuple[int, ...]
    dimension: int

    @staticmethod
    def open(uri: str, option: str) -> "VectorFiles":
        """Raises UserError, naming the option and the file, for anything but matrices of one width."""
        places = files_of(uri, (".npy",), option)
        if not places[0].is_local:
            raise UserError(f"{option} {uri}: vectors are memory-mapped, so copy them to a local disk first")
        files = tuple(Path(place.path) for place in places)
        arrays = tuple(open_array(file, option) for file in files)
        dimension = 0
        for file, array in zip(files, arrays, strict=True):
            if array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
                raise UserError(
                    f"{option} {file}: holds {array.dtype} of shape {array.shape}, but vectors are floating point "
                    "numbers of shape (rows, dimensions)"
                )
            if dimension not in (0, array.shape[1]):
                raise UserError(
                    f"{option} {file}: vectors of {array.shape[1]} dimensions, but those of {files[0].name} have "
                    f"{dimension}; they cannot be of one model"
                )
            dimension = array.shape[1]
        starts = (0, *accumulate(len(array) for array in arrays))
        if not starts[-1]:
            raise UserError(f"{option} {uri}: there is not one vector in it")
        return VectorFiles(files, arrays, starts, dimension)

    def __len__(self) -> int:
        return self.starts[-1]

    def file_and_row(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For every index, the number of its file and its row there."""
        files = np.searchsorted(np.asarray(self.starts), indices, side="right") - 1
        return files.astype(np.int64), indices - np.asarray(self.starts, np.int64)[files]

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """The vectors with these indices, (len(indices), d), as they are in the files."""
        files, rows = self.file_and_row(indices)
        taken = np.empty((len(indices), self.dimension), np.float64)
        for number in np.unique(files).tolist():
            chosen = files == number
            with np.errstate(over="ignore", invalid="ignore"):
                taken[chosen] = self.arrays[number][rows[chosen]]
        return taken


def open_array(file: Path, option: str) -> NDArray[Any]:
    """One array, memory-mapped; pickled objects are never loaded."""
    try:
        with open(file, "rb") as stream:
            beginning = stream.read(len(_MAGIC))
        if beginning == _MAGIC:
            array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
            return array
        reason = "it is an .npz archive" if beginning.startswith(b"PK") else "it does not begin as one"
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except Exception as error:  # a damaged header makes numpy raise nearly anything
        reason = "it holds Python objects" if "Python objects" in str(error) else "it was cut short, or is damaged"
    raise UserError(
        f"{option} {file}: this is not a whole .npy file of numbers ({reason}); write it again with numpy.save"
    )


def unit_vectors(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float16], Sequence[tuple[int, str]]]:
    """Each vector divided by its length and rounded to float16, and (index, why) of those that have no direction.

    Vectors without a direction become zeros.
    """
    largest = np.abs(vectors).max(axis=1, initial=0)
    bad = ~np.isfinite(largest) | (largest == 0)
    # divided by the largest value first, for the squares of very large and very small ones have no float64
    scaled = np.where(bad[:, None], 0, vectors) / np.where(bad, 1, largest)[:, None]
    length = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))
    reasons = [
        (index, "all values are zero" if largest[index] == 0 else "a value is not a finite number")
        for index in np.flatnonzero(bad).tolist()
    ]
    return (scaled / np.where(bad, 1, length)[:, None]).astype(np.float16), reasons
