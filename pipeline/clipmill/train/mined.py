"""Hard negatives from an index of captions: of each image the captions of others that are nearest to it.

A caption that scores nearly as high as the image's own may well be true of it, so only those below 95% of the own score are
taken (positive-aware mining: Moreira et al., "NV-Retriever: Improving Text Embedding Models with Effective Hard-Negative
Mining", 2024, TopK-PercPos).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.manifests import IndexManifest
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.datasets.manifests import INPUTS_FILE, Embeddings, read_manifest, vectors_of
from clipmill.index.search.open import open_index
from clipmill.index.search.search import Index
from clipmill.source.input_file import InputFile
from clipmill.source.units import Unit
from clipmill.storage import Location

NEGATIVES = 4
"""Kept of an image."""
_ASKED = 32
_MOST_OF_OWN = 0.95
_ROW_MASK = (1 << ORDINAL_SHIFT) - 1
_BATCH = 4096


@dataclass(frozen=True)
class Mined:
    """False captions by row of the training input: ``row`` int64, ascending, and ``negatives`` list<string>."""

    table: pa.Table

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return np.asarray(self.table.column("row").to_numpy())

    def of(self, unit: Unit) -> list[list[str]]:
        """The false captions of each row of a unit, in its order; empty where none were found."""
        wanted = np.concatenate([(s.ordinal << ORDINAL_SHIFT) + np.arange(s.start, s.stop) for s in unit.spans])
        at = np.minimum(np.searchsorted(self._rows, wanted), max(0, len(self._rows) - 1))
        known = self._rows[at] == wanted if len(self._rows) else np.zeros(len(wanted), np.bool_)
        found = iter(self.table.column("negatives").take(pa.array(at[known])).to_pylist())
        return [next(found) if there else [] for there in known]


def refuse_unusable_index(uri: str) -> IndexManifest:
    """The manifest of an index to mine. Raises UserError for one that holds no captions, or is none."""
    manifest = read_manifest(storage.resolve(uri), IndexManifest)
    if manifest.gallery != "captions":
        raise UserError(
            f"--hard-negatives {uri}: it is an index of {manifest.gallery}, and negatives are captions: build one with "
            "`clipmill index --gallery captions`"
        )
    return manifest


def mine(uri: str, inputs: Sequence[InputFile]) -> Mined:
    """Searches the index at ``uri`` for every image that its embeddings have, for rows of these inputs.

    Raises UserError where the embeddings were made from other files.
    """
    manifest = refuse_unusable_index(uri)
    embeddings = Embeddings.open(manifest.embeddings)
    if embeddings.manifest_sha256 != manifest.embeddings_manifest_sha256:
        raise UserError(
            f"--hard-negatives {uri}: the embeddings at {manifest.embeddings} are others than it was built from; build it again"
        )
    ordinals = _ordinals(uri, embeddings.location, inputs)
    index, captions = open_index(uri), embeddings.table("captions", ["row", "caption"])
    owners, texts = captions.column("row").to_numpy(), captions.column("caption")
    if index.n != len(owners) or not np.array_equal(index.rows_at(np.arange(index.n)), owners):
        raise RunFailed(f"{uri} does not hold the captions of {manifest.embeddings} in their order; build it again")
    rows: list[int] = []
    negatives: list[list[str]] = []
    for batch in embeddings.batches("images", ["row", "embedding"], _BATCH):
        own_rows = batch.column(0).to_numpy()
        for row, found in zip(own_rows.tolist(), _nearest(index, batch, owners, texts), strict=True):
            ordinal = ordinals.get(row >> ORDINAL_SHIFT)
            if ordinal is not None and found:
                rows.append((ordinal << ORDINAL_SHIFT) + (row & _ROW_MASK))
                negatives.append(found)
    order = np.argsort(np.array(rows, np.int64))
    table = pa.table({"row": pa.array(rows, pa.int64()), "negatives": pa.array(negatives, pa.list_(pa.string()))})
    return Mined(table.take(pa.array(order)))


def _ordinals(uri: str, dataset: Location, inputs: Sequence[InputFile]) -> dict[int, int]:
    """From ordinals of the embeddings' files to those of the same files in the training input."""
    theirs = storage.read_table(dataset / INPUTS_FILE).to_pylist()
    ours = {(file.path, file.size, file.etag): file.ordinal for file in inputs}
    found = {
        entry["ordinal"]: ours[key]
        for entry in theirs
        if not entry["dead"] and (key := (entry["path"], entry["size"], entry["etag"])) in ours
    }
    missing = [file.path for file in inputs if file.ordinal not in found.values()]
    if missing:
        raise UserError(
            f"--hard-negatives {uri}: its embeddings were not made from {missing[0]} as it is now; embed --input again, and "
            "build the index over that"
        )
    return found


def _nearest(index: Index, batch: pa.RecordBatch, owners: NDArray[np.int64], texts: pa.ChunkedArray) -> list[list[str]]:
    """Of each image of a batch the captions of others that lie nearest, without those that may be true of it."""
    rows, vectors = batch.column(0).to_numpy(), vectors_of(batch.column(1)).astype(np.float32)
    scores, positions = index.search(vectors, min(_ASKED, index.n))
    first, last = np.searchsorted(owners, rows), np.searchsorted(owners, rows, side="right")
    found: list[list[str]] = []
    for at in range(len(rows)):
        own = np.arange(first[at], last[at])
        if not len(own):
            found.append([])
            continue
        best = float((index.vectors_at(own) @ vectors[at]).max())
        said = set(texts.take(pa.array(own)).to_pylist())
        far = (positions[at] >= 0) & (owners[positions[at]] != rows[at]) & (scores[at] < _MOST_OF_OWN * best)
        others = texts.take(pa.array(positions[at][far])).to_pylist()
        found.append([text for text in dict.fromkeys(others) if text and text not in said][:NEGATIVES])
    return found
