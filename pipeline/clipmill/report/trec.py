"""Every query's results as TREC run and qrels files, which ``trec_eval`` and its kin score again.

A line of a run is ``query Q0 item rank score clipmill``, of qrels ``query 0 item 1``. Images are named by their row, captions
by row and caption index: ``12/0``. Both are those of the Parquet files of the embeddings.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill import storage
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.vectors import Vectors, blocks, read_vectors
from clipmill.report.document import TrecPart
from clipmill.report.ranked import ranked_blocks
from clipmill.storage import Location

_QUERIES = 4096


def write_trec(
    folder: Location,
    embeddings: Embeddings,
    depth: int,
    scratch: Path,
    ranked: Mapping[str, NDArray[np.int64]] | None = None,
) -> TrecPart | None:
    """Writes the first ``depth`` results of every query that was ranked, both ways, and all answers. ``ranked`` are the
    positions of these by direction; default: every query that has an answer.

    Results are those of exact search, by float64 scores, and where these tie by position. None, and no file, where nothing
    can be asked. ``scratch`` holds what memory cannot.
    """
    images, captions = (read_vectors(embeddings, part, scratch) for part in ("images", "captions"))
    if not np.isin(captions.rows, images.rows).any():
        return None
    indices = [
        np.asarray(batch.column(0).to_numpy(), np.int64) for batch in embeddings.batches("captions", ["caption_index"])
    ]
    names = _names(images.rows), _names(captions.rows, np.concatenate(indices))
    files = {}
    for direction, queries, gallery, of_queries, of_gallery in (
        ("t2i", captions, images, names[1], names[0]),
        ("i2t", images, captions, names[0], names[1]),
    ):
        asked = np.flatnonzero(np.isin(queries.rows, gallery.rows)) if ranked is None else ranked[direction]
        for kind, lines in (
            ("run", _run(queries, gallery, asked, of_queries, of_gallery, depth)),
            ("qrels", _qrels(queries, gallery, asked, of_queries, of_gallery)),
        ):
            name = f"report.{direction}.{kind}"
            with storage.atomic_writer(folder / name) as stream:
                for line in lines:
                    stream.write(line)
            files[name] = stream.written.sha256
    return TrecPart(depth=depth, files=files)


def _names(rows: NDArray[np.int64], index: NDArray[np.int64] | None = None) -> pa.Array:
    """What each item is called: by row, and by caption index where there is one."""
    found = pa.array(rows).cast(pa.string())
    if index is None:
        return found
    return pa.compute.binary_join_element_wise(found, pa.array(index).cast(pa.string()), "/")


def _run(
    queries: Vectors, gallery: Vectors, asked: NDArray[np.int64], of_queries: pa.Array, of_gallery: pa.Array, depth: int
) -> Iterator[bytes]:
    for block in ranked_blocks(queries, gallery, asked, depth):
        k = block.found.shape[1]
        items = of_gallery.take(pa.array(block.found.reshape(-1))).to_pylist()
        asking = of_queries.take(pa.array(block.asked)).to_pylist()
        yield "".join(
            f"{asking[number // k]} Q0 {item} {number % k + 1} {score!r} clipmill\n"
            for number, (item, score) in enumerate(zip(items, block.scores.reshape(-1).tolist(), strict=True))
        ).encode()


def _qrels(
    queries: Vectors, gallery: Vectors, asked: NDArray[np.int64], of_queries: pa.Array, of_gallery: pa.Array
) -> Iterator[bytes]:
    order = np.argsort(gallery.rows, kind="stable")
    ordered = gallery.rows[order]
    for part in blocks(len(asked), _QUERIES):
        at = asked[part]
        first = np.searchsorted(ordered, queries.rows[at], "left")
        count = np.searchsorted(ordered, queries.rows[at], "right") - first
        own = order[np.repeat(first - (np.cumsum(count) - count), count) + np.arange(count.sum())]
        asking = of_queries.take(pa.array(np.repeat(at, count))).to_pylist()
        items = of_gallery.take(pa.array(own)).to_pylist()
        yield "".join(f"{query} 0 {item} 1\n" for query, item in zip(asking, items, strict=True)).encode()
