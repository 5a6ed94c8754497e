"""Metrics of quality by the slices of a column, and the slices that do worse than the rest of the dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Figure
from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.statistics.permutation import draws_needed, holm, p_worse, residual_levels
from clipmill.evaluation.studies.slicing import SliceName, Slicing

LEVEL = 0.05
"""The chance of even one false alarm among all comparisons of a report."""


@dataclass(frozen=True)
class SliceFigure:
    """The metric ``key`` over the queries of one slice. ``p_value`` is of the hypothesis that it is no worse than the
    rest, and ``adjusted`` the same corrected for all comparisons of the report; None where there is no rest."""

    key: str
    interval: Interval
    p_value: float | None = None
    adjusted: float | None = None

    @property
    def is_worse(self) -> bool:
        """True if it is significantly below the rest, at a level of 5% over all comparisons together."""
        return self.adjusted is not None and self.adjusted <= LEVEL


@dataclass(frozen=True)
class Slice:
    """One slice: how many images it has, and the figures that have a query in it."""

    name: SliceName
    images: int
    figures: tuple[SliceFigure, ...]


@dataclass(frozen=True)
class SlicedColumn:
    """The slices of one column."""

    column: str
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Slices:
    """All columns, the ``figures`` over the whole dataset, and how many comparisons were made."""

    figures: tuple[Figure, ...]
    columns: tuple[SlicedColumn, ...]
    comparisons: int


@dataclass(frozen=True)
class _Cell:
    """One figure of one slice of one column, and whether the column has other slices to compare it with."""

    column: int
    slice: int
    figure: int
    has_rest: bool


def measure_slices(
    image_rows: NDArray[np.int64],
    figures: Sequence[ByQuery],
    slicings: Sequence[Slicing],
    *,
    samples: int = 1000,
    seed: int = 0,
    progress: Callable[[int], object] = lambda done: None,
) -> Slices:
    """Figures of every slice, each from the queries of the slice's images; the gallery stays whole.

    ``image_rows`` (images,) are the rows of the images that ``slicings`` number. ``progress`` is called with 1 for every
    figure of every column.
    """
    # The image of each query, by position.
    order = np.argsort(image_rows, kind="stable")
    images = [order[np.searchsorted(image_rows[order], figure.rows)] for figure in figures]
    # A cell for each figure of each slice that has a query, with its interval.
    cells, intervals = [], []
    for column, slicing in enumerate(slicings):
        for number, figure in enumerate(figures):
            of_query = slicing.numbers[images[number]]
            present = np.unique(of_query).tolist()
            for at in present:
                cells.append(_Cell(column, at, number, len(present) > 1))
                intervals.append(figure.take(of_query == at).interval(samples, seed))
            progress(1)
    # All p-values together, since Holm's correction is over all comparisons.
    p_values = _p_values(cells, figures, images, slicings, seed)
    found: dict[tuple[int, int], list[SliceFigure]] = {}
    for cell, interval, p_value in zip(cells, intervals, p_values, strict=True):
        made = SliceFigure(figures[cell.figure].metric.key, interval, *p_value)
        found.setdefault((cell.column, cell.slice), []).append(made)
    return Slices(
        figures=tuple(figure.figure(samples, seed) for figure in figures),
        columns=tuple(
            SlicedColumn(
                slicing.column,
                tuple(
                    Slice(name, int(np.sum(slicing.numbers == at)), tuple(found.get((column, at), ())))
                    for at, name in enumerate(slicing.names)
                ),
            )
            for column, slicing in enumerate(slicings)
        ),
        comparisons=sum(cell.has_rest for cell in cells),
    )


def _p_values(
    cells: Sequence[_Cell],
    figures: Sequence[ByQuery],
    images: Sequence[NDArray[np.int64]],
    slicings: Sequence[Slicing],
    seed: int,
) -> list[tuple[float, float] | tuple[()]]:
    """The p-value of each cell, and the same adjusted; an empty tuple for a cell without a rest."""
    compared = [cell for cell in cells if cell.has_rest]
    draws = draws_needed(len(compared), LEVEL)
    by_image = [_by_image(figure, of_query) for figure, of_query in zip(figures, images, strict=True)]
    found = np.empty(len(compared))
    for number, cell in enumerate(compared):
        present, values, level = by_image[cell.figure]
        members = slicings[cell.column].numbers[present] == cell.slice
        found[number] = p_worse(values, level, members, draws, np.random.default_rng([seed, number]))
    pairs = iter(zip(found.tolist(), holm(found).tolist(), strict=True))
    return [next(pairs) if cell.has_rest else () for cell in cells]


def _by_image(
    figure: ByQuery, image_of_query: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """The positions (n,) of the images that have a query, the values of their residuals, and the level (n,) of each."""
    present, query = np.unique(image_of_query, return_inverse=True)
    sums, counts = (np.bincount(query, weights).astype(np.float64) for weights in (figure.values, None))
    return (present, *residual_levels(sums, counts))
