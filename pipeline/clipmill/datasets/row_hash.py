"""Numbers that follow from where a row stands in its source: what is drawn by them is the same in every dataset of the same
files, whichever model made it."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.datasets.manifests import INPUTS_FILE, Embeddings

ROW_NUMBER = (1 << ORDINAL_SHIFT) - 1
"""The bits of a row that are its number in its source file."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash_path(path: str | None) -> int:
    """64 bits that follow from the path of a source file."""
    return int.from_bytes(hashlib.blake2b((path or "").encode(), digest_size=8).digest(), "little")


def hash_rows(path_hashes: NDArray[np.uint64], row_numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
    """32 evenly spread bits per row of a source file."""
    mixed = mix(path_hashes ^ (row_numbers.astype(np.uint64) * _GOLDEN))
    result: NDArray[np.uint32] = (mixed >> np.uint64(32)).astype(np.uint32)
    return result


def mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 evenly spread bits of each number (the finaliser of SplitMix64; Steele, Lea and Flood 2014)."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def paths_of_sources(embeddings: Embeddings, last: int) -> list[str | None]:
    """The paths of the source files by ordinal, 0 to ``last``; None for one that is not listed."""
    paths: list[str | None] = [None] * (last + 1)
    for record in storage.read_table(embeddings.location / INPUTS_FILE).select(["ordinal", "path"]).to_pylist():
        if record["ordinal"] <= last:
            paths[record["ordinal"]] = record["path"]
    return paths


def item_keys(embeddings: Embeddings, part: str, seed: int) -> NDArray[np.uint64]:
    """A number for each item of a part, in its order: uint64 (n,). It follows from the path of the source file, the row in it,
    the caption's index and ``seed``, so the items with the least numbers are a random choice, and another dataset of the same
    files chooses the same."""
    columns = ["row", "caption_index"] if part == "captions" else ["row"]
    batches = list(embeddings.batches(part, columns))
    if not batches:
        return np.empty(0, np.uint64)
    rows = np.concatenate([batch.column("row").to_numpy() for batch in batches])
    paths = paths_of_sources(embeddings, int(rows.max()) >> ORDINAL_SHIFT)
    hashes = np.array([hash_path(path) for path in paths], np.uint64)
    keys = mix(hashes[rows >> ORDINAL_SHIFT] ^ mix(np.full(1, seed, np.int64).view(np.uint64)))
    keys = mix(keys ^ ((rows & ROW_NUMBER).astype(np.uint64) * _GOLDEN))
    if part == "captions":
        index = np.concatenate([batch.column("caption_index").to_numpy() for batch in batches])
        keys = mix(keys ^ ((index.astype(np.uint64) + np.uint64(1)) * _GOLDEN))
    return keys
