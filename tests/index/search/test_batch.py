"""Query files larger than one batch are answered like small ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from clipmill.datasets.manifests import Embeddings
from clipmill.index.search import batch, query_file
from clipmill.index.search.search import Index


def no_texts(texts: object) -> np.ndarray:
    raise AssertionError("vectors are not to be encoded")


def test_queries_keep_their_numbers_from_batch_to_batch(
    clustered_embeddings: Callable[..., Embeddings],
    indexed: Callable[..., Index],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = indexed(clustered_embeddings(40, 5))
    queries = index.vectors_at(np.arange(25)).astype(np.float16)
    np.save(tmp_path / "queries.npy", queries)
    monkeypatch.setattr(query_file, "BATCH_QUERIES", 7)
    monkeypatch.setattr(batch, "BATCH_RESULTS", 100)  # two queries of 40 results each
    done = batch.search_batch(index, str(tmp_path / "queries.npy"), str(tmp_path / "out.parquet"), 50, no_texts)
    assert done == 25
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 25 * 40  # every row of the gallery, and no filler up to 50
    assert table.column("query").to_pylist() == np.repeat(np.arange(25), 40).tolist()
    ranks = np.array(table.column("rank"))
    assert np.array(table.column("row"))[ranks == 1].tolist() == list(range(25))
