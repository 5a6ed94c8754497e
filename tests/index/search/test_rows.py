"""Positions lead to ids and columns in the order asked, and ids back to positions."""

from collections.abc import Callable

import numpy as np
import pytest

from clipmill.datasets.manifests import Embeddings
from clipmill.index.search.search import Index


@pytest.fixture(scope="module")
def index(clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index]) -> Index:
    labels = [f"label {row % 3}" for row in range(5000)]
    return indexed(clustered_embeddings(5000, 50, labels=labels), shards=2)


def test_columns_come_in_the_order_of_the_positions_with_repeats(index: Index) -> None:
    positions = np.array([4999, 0, 2500, 0, 1024, 2499])
    table = index.table.fetch(positions)
    assert table.column_names == ["row", "id", "label"]
    assert table.column("row").to_pylist() == positions.tolist()
    assert table.column("id").to_pylist() == [f"image-{row}" for row in positions]
    assert table.column("label").to_pylist() == [f"label {row % 3}" for row in positions]
    assert index.rows_at(positions).tolist() == positions.tolist()


def test_no_positions_give_an_empty_table(index: Index) -> None:
    assert index.table.fetch(np.empty(0, np.int64), ["id"]).num_rows == 0


@pytest.mark.parametrize("row", [0, 2499, 2500, 4999])
def test_an_id_leads_to_its_position(index: Index, row: int) -> None:
    assert index.table.positions_of_id(f"image-{row}").tolist() == [row]


def test_an_id_that_is_not_there_leads_nowhere(index: Index) -> None:
    assert index.table.positions_of_id("image-5000").tolist() == []
    assert index.table.positions_of_id("").tolist() == []


def test_a_captions_gallery_brings_the_caption(
    clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index]
) -> None:
    index = indexed(clustered_embeddings(100, 60), gallery="captions")
    table = index.table.fetch(np.array([7]))
    assert table.to_pylist() == [{"row": 7, "id": "image-7", "caption_index": 0, "caption": "caption of 7"}]


def test_few_rows_are_read_to_fetch_one(index: Index) -> None:
    metadata = index.table._files[0].metadata
    assert max(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)) <= 1024
