"""A sample is drawn over the whole dataset without reading the whole of it, and queries never repeat."""

from collections.abc import Callable

import numpy as np
import pytest

from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.queries import draw_queries
from clipmill.index.build.sample import choose_units, draw_rows, sample_vectors


def test_rows_are_drawn_by_the_counts_of_their_units_and_never_twice() -> None:
    counts = np.array([1000, 10, 0, 3000])
    drawn = np.zeros(4)
    for seed in range(50):
        for draw in draw_rows(counts, 400, np.random.default_rng(seed)):
            assert len(np.unique(draw.rows)) == len(draw.rows)
            assert draw.rows.max() < counts[draw.unit]
            drawn[draw.unit] += len(draw.rows)
    np.testing.assert_allclose(drawn / drawn.sum(), counts / counts.sum(), atol=0.01)


def test_only_as_many_units_are_chosen_as_hold_the_rows_wanted() -> None:
    counts = np.full(10_000, 100)
    chosen = choose_units(counts, 20_000, np.random.default_rng(0), at_least=64)
    assert len(chosen) == 200
    assert len(choose_units(counts, 500, np.random.default_rng(0), at_least=64)) == 64
    assert len(choose_units(counts[:7], 10**9, np.random.default_rng(0))) == 7


def test_larger_units_are_chosen_more_often() -> None:
    counts = np.array([900] + [100] * 9)
    first = [0 in choose_units(counts, 1, np.random.default_rng(seed), at_least=1) for seed in range(400)]
    assert np.mean(first) == pytest.approx(0.5, abs=0.08)


def test_a_sample_reads_few_row_groups_of_a_large_dataset(
    clustered_embeddings: Callable[..., Embeddings], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    dataset = clustered_embeddings(20_000, 10, row_group_size=50)
    read: list[int] = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda file, group, **options: (read.append(group), real(file, group, **options))[1],
    )
    sample = sample_vectors(Gallery(dataset, "images"), 500, seed=3)
    assert sample.shape == (500, 16)
    assert len(read) <= 64
    np.testing.assert_array_equal(sample, sample_vectors(Gallery(dataset, "images"), 500, seed=3))


def test_a_sample_larger_than_the_dataset_is_the_dataset(clustered_embeddings: Callable[..., Embeddings]) -> None:
    dataset = clustered_embeddings(300, 10)
    sample = sample_vectors(Gallery(dataset, "images"), 1000, seed=0)
    everything = np.array(dataset.table("images", ["embedding"]).column("embedding").to_pylist(), np.float16)
    np.testing.assert_array_equal(np.sort(sample.view(np.uint16), axis=0), np.sort(everything.view(np.uint16), axis=0))


def test_no_query_to_confirm_with_was_tuned_on(clustered_embeddings: Callable[..., Embeddings]) -> None:
    queries = draw_queries(Gallery(clustered_embeddings(900, 900), "images"), 400, seed=0)
    assert len(queries.tuning) == len(queries.confirmation) == 400
    assert len(np.unique(queries.all, axis=0)) == 800


def test_few_captions_are_shared_out_in_halves(clustered_embeddings: Callable[..., Embeddings]) -> None:
    queries = draw_queries(Gallery(clustered_embeddings(100, 7), "images"), 400, seed=0)
    assert (len(queries.tuning), len(queries.confirmation)) == (4, 3)


@pytest.mark.parametrize(("start", "stop"), [(0, 1000), (0, 1), (333, 334), (120, 480), (999, 1000), (600, 1000)])
def test_a_run_of_positions_is_read_whatever_files_it_crosses(
    clustered_embeddings: Callable[..., Embeddings], start: int, stop: int
) -> None:
    gallery = Gallery(clustered_embeddings(1000, 5, files=4, row_group_size=37), "images")
    for batch_rows in (10, 10_000):
        rows = [
            row for batch in gallery.batches(start, stop, ["row"], batch_rows) for row in batch.column(0).to_pylist()
        ]
        assert rows == list(range(start, stop))
