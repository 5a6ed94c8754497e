"""Where in an open index the rows are that were taken down since it was made."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.core.errors import RunFailed
from clipmill.core.schemas import IMAGE_SHA256
from clipmill.datasets.manifests import Embeddings
from clipmill.index.search.rows import RowTable
from clipmill.serve.answers.opened import Opened
from clipmill.versions.matching import hashes_array
from clipmill.versions.takedown import Takedown

_BATCH_ROWS = 262_144


def hidden_positions(opened: Opened, taken: Takedown) -> NDArray[np.int64]:
    """The positions of rows with an id or a picture that was taken down, in order.

    Raises RunFailed where a picture was taken down and the pictures' hashes cannot be read: then it is not known what to
    hide.
    """
    found = [
        np.empty(0, np.int64),
        *_with_ids(opened, taken.ids),
        *_with_rows(opened, _rows_of(opened, taken.contents)),
    ]
    return np.unique(np.concatenate(found))


def _with_ids(opened: Opened, ids: frozenset[str]) -> Iterator[NDArray[np.int64]]:
    if not ids:
        return
    table, wanted, start = RowTable(opened.index.table.paths, opened.index.table.starts), pa.array(sorted(ids)), 0
    for shard in range(len(table.paths)):
        for batch in table.batches(shard, ["id"], _BATCH_ROWS):
            inside = pc.indices_nonzero(pc.is_in(batch.column("id"), value_set=wanted)).to_numpy()
            yield inside.astype(np.int64) + start
            start += batch.num_rows


def _with_rows(opened: Opened, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    sharded = opened.index.sharded
    for start, here in zip(sharded.vectors.starts, sharded.rows, strict=False):
        yield np.flatnonzero(np.isin(here, rows)) + start if len(rows) else np.empty(0, np.int64)


def _rows_of(opened: Opened, contents: frozenset[str]) -> NDArray[np.int64]:
    """The rows of pictures with these hashes."""
    if not contents:
        return np.empty(0, np.int64)
    manifest = opened.index.manifest
    dataset = Embeddings.open(manifest.embeddings)
    if dataset.manifest_sha256 != manifest.embeddings_manifest_sha256 or not dataset.manifest.has_hashes:
        raise RunFailed(
            f"{opened.uri}: pictures were taken down by what they are, and the hashes of its pictures are not known; publish "
            "a version without them with `clipmill run`"
        )
    wanted, found = hashes_array(contents), [np.empty(0, np.int64)]
    for batch in dataset.batches("images", ["row", IMAGE_SHA256]):
        inside = batch.filter(pc.is_in(batch.column(IMAGE_SHA256), value_set=wanted))
        found.append(inside.column("row").to_numpy())
    return np.concatenate(found)
