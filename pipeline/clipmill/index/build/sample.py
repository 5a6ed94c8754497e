"""A random sample of vectors over a whole dataset, read from some row groups only and never in a pass over everything."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill.datasets.manifests import vectors_of
from clipmill.index.build.gallery import Gallery

READ_FACTOR = 4
"""Rows in the row groups read for every row wanted: the more, the closer to drawing each row on its own."""
MIN_UNITS = 64
"""At least so many files, and row groups of them, are drawn from where there are as many."""


@dataclass(frozen=True)
class Sample:
    """``vectors`` (s, d), and their ``positions`` in the gallery, int64 (s,)."""

    vectors: NDArray[Any]
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """Rows to take from one unit: ``rows`` are sorted row numbers inside it."""

    unit: int
    rows: NDArray[np.int64]


def choose_units(
    counts: NDArray[np.int64], rows: int, rng: np.random.Generator, at_least: int = MIN_UNITS
) -> NDArray[np.int64]:
    """Units drawn without replacement, a larger one sooner, until they hold ``rows`` rows and are ``at_least`` many.

    The weighted order is that of Efraimidis and Spirakis (2006): exponential waiting times at rates ``counts``.
    """
    order = np.argsort(rng.exponential(size=len(counts)) / np.maximum(counts, 1), kind="stable")
    enough = int(np.searchsorted(np.cumsum(counts[order]), rows)) + 1
    return np.sort(order[: max(enough, at_least)])


def draw_rows(counts: NDArray[np.int64], size: int, rng: np.random.Generator) -> list[Draw]:
    """``size`` rows drawn uniformly without replacement from units of ``counts`` rows; all of them when fewer."""
    size = min(size, int(counts.sum()))
    wanted = rng.multivariate_hypergeometric(counts, size, method="marginals")
    return [
        Draw(unit, np.sort(rng.choice(int(count), int(some), replace=False)))
        for unit, (count, some) in enumerate(zip(counts, wanted, strict=True))
        if some
    ]


def sample_vectors(
    gallery: Gallery,
    size: int,
    seed: int,
    on_read: Callable[[], object] = lambda: None,
    *,
    dtype: type[np.floating] = np.float16,
) -> NDArray[Any]:
    """The vectors of `draw_sample`."""
    return draw_sample(gallery, size, seed, on_read, dtype=dtype).vectors


def draw_sample(
    gallery: Gallery,
    size: int,
    seed: int,
    on_read: Callable[[], object] = lambda: None,
    *,
    dtype: type[np.floating] = np.float16,
) -> Sample:
    """``size`` vectors (size, d) of the gallery as ``dtype``, or all n when there are fewer; the same for the same seed.

    ``on_read`` is called after every row group that was read.
    """
    rng = np.random.default_rng(seed)
    readable = min(gallery.n, size * READ_FACTOR)
    file_rows = np.diff(gallery.starts)
    numbers = choose_units(file_rows, readable, rng)
    files = {int(number): gallery.open_file(int(number), pre_buffer=False) for number in numbers}
    groups = [(number, group) for number, file in files.items() for group in range(file.num_row_groups)]
    counts = np.array([files[number].metadata.row_group(group).num_rows for number, group in groups], dtype=np.int64)
    starts = np.concatenate([gallery.starts[number] + _group_starts(file) for number, file in files.items()])
    chosen = choose_units(counts, readable, rng)
    draws = draw_rows(counts[chosen], size, rng)
    sample = np.empty((sum(len(draw.rows) for draw in draws), gallery.dimension), dtype)
    positions = [starts[chosen[draw.unit]] + draw.rows for draw in draws]
    done = 0
    for draw in draws:
        number, group = groups[chosen[draw.unit]]
        column = files[number].read_row_group(group, columns=["embedding"]).column("embedding")
        sample[done : done + len(draw.rows)] = vectors_of(column)[draw.rows]
        done += len(draw.rows)
        on_read()
    pa.default_memory_pool().release_unused()  # training has no use for it, and may need as much as there is
    return Sample(sample, np.concatenate([np.empty(0, np.int64), *positions]))


def _group_starts(file: pq.ParquetFile) -> NDArray[np.int64]:
    """The row in the file at which each of its row groups begins."""
    rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return np.cumsum([0, *rows], dtype=np.int64)[:-1]
