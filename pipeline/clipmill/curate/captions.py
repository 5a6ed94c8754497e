"""The captions of image rows, read beside them: both parts of a dataset are in row order."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.datasets.manifests import Embeddings

_BATCH_ROWS = 16_384
_COLUMNS = ("row", "caption", "clip_score")


class CaptionsByRow:
    """Hands out captions by row; rows must be asked for in rising order, none of them before ``first_row``, and memory holds a
    batch or two."""

    def __init__(self, dataset: Embeddings, first_row: int = 0) -> None:
        has_captions = dataset.count("captions") > 0
        self._batches: Iterator[pa.RecordBatch] = iter(
            dataset.batches("captions", _COLUMNS, _BATCH_ROWS, first_row) if has_captions else ()
        )
        self._waiting = pa.table({"row": pa.array([], pa.int64()), "caption": pa.array([], pa.string())}).append_column(
            "clip_score", pa.array([], pa.float32())
        )

    def of(self, rows: NDArray[np.int64]) -> tuple[pa.Array, pa.Array]:
        """For each of ``rows`` its captions (list<string>), and the greatest clip score of them (float32; null where
        there is none)."""
        here = self._up_to(int(rows[-1]))
        row = here.column("row").to_numpy()
        starts, stops = np.searchsorted(row, rows), np.searchsorted(row, rows, side="right")
        inside = np.isin(row, rows)
        texts = here.column("caption").combine_chunks().filter(pa.array(inside))
        offsets = np.concatenate([[0], np.cumsum(stops - starts)]).astype(np.int32)
        scores = pc.fill_null(here.column("clip_score"), float("-inf")).to_numpy(zero_copy_only=False)
        best = np.full(len(rows), -np.inf, np.float32)
        np.maximum.at(best, np.searchsorted(rows, row[inside]), scores[inside])
        captions = pa.ListArray.from_arrays(pa.array(offsets), texts)
        return captions, pa.array(best, pa.float32(), mask=np.isneginf(best))

    def _up_to(self, last: int) -> pa.Table:
        """The captions of rows up to ``last``; those after it wait."""
        while not self._waiting.num_rows or self._waiting.column("row")[-1].as_py() <= last:
            batch = next(self._batches, None)
            if batch is None:
                break
            self._waiting = pa.concat_tables(
                [self._waiting, pa.Table.from_batches([batch])], promote_options="permissive"
            )
        stop = int(np.searchsorted(self._waiting.column("row").to_numpy(), last, side="right"))
        here, self._waiting = self._waiting.slice(0, stop), self._waiting.slice(stop)
        return here
