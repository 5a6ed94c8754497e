"""Metrics of quality by the slices of a column, and the slices that do worse than the rest of the dataset."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.figures import finite_ends
from clipmill.evaluation.results import SlicedColumnPart, SliceFigure, SlicePart, SlicesPart
from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.statistics.permutation import draws_needed, holm, p_worse, residual_levels
from clipmill.evaluation.studies.slicing import Slicing

LEVEL = 0.05
"""The chance of even one false alarm among all comparisons of a report."""


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
    seed: int = 0,
    progress: Callable[[int], object] = lambda done: None,
) -> SlicesPart:
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
                intervals.append(figure.take(of_query == at).interval())
            progress(1)
    # All p-values together, since Holm's correction is over all comparisons.
    p_values = _p_values(cells, figures, images, slicings, seed)
    found: dict[tuple[int, int], list[SliceFigure]] = {}
    for cell, interval, (p_value, adjusted) in zip(cells, intervals, p_values, strict=True):
        low, high = finite_ends(interval)
        measured = SliceFigure(
            key=figures[cell.figure].metric.key,
            value=interval.value,
            low=low,
            high=high,
            n=interval.n,
            p_value=p_value,
            adjusted=adjusted,
            worse=adjusted is not None and adjusted <= LEVEL,
        )
        found.setdefault((cell.column, cell.slice), []).append(measured)
    return SlicesPart(
        figures=[figure.figure for figure in figures],
        columns=[_column(number, slicing, found) for number, slicing in enumerate(slicings)],
        comparisons=sum(cell.has_rest for cell in cells),
        level=LEVEL,
    )


def worse_images(part: SlicesPart, slicings: Sequence[Slicing]) -> NDArray[np.bool_]:
    """Which images (n,) are in a slice that does worse in some figure."""
    apart = np.zeros(len(slicings[0].numbers), np.bool_)
    for column, slicing in zip(part.columns, slicings, strict=True):
        worse = [number for number, one in enumerate(column.slices) if any(figure.worse for figure in one.figures)]
        apart |= np.isin(slicing.numbers, worse)
    return apart


def _column(number: int, slicing: Slicing, found: Mapping[tuple[int, int], list[SliceFigure]]) -> SlicedColumnPart:
    """The slices of one column, also those without a figure."""
    images_of = np.bincount(slicing.numbers, minlength=len(slicing.names)).tolist()
    slices = [
        SlicePart(kind=name.kind, text=name.text, images=images, figures=found.get((number, at), []))
        for at, (name, images) in enumerate(zip(slicing.names, images_of, strict=True))
    ]
    return SlicedColumnPart(column=slicing.column, slices=slices)


def _p_values(
    cells: Sequence[_Cell],
    figures: Sequence[ByQuery],
    images: Sequence[NDArray[np.int64]],
    slicings: Sequence[Slicing],
    seed: int,
) -> list[tuple[float, float] | tuple[None, None]]:
    """The p-value of each cell, and the same adjusted; neither for a cell without a rest."""
    compared = [cell for cell in cells if cell.has_rest]
    draws = draws_needed(len(compared), LEVEL)
    by_image = [_by_image(figure, of_query) for figure, of_query in zip(figures, images, strict=True)]
    found = np.empty(len(compared))
    for number, cell in enumerate(compared):
        present, values, level, weights = by_image[cell.figure]
        members = slicings[cell.column].numbers[present] == cell.slice
        found[number] = p_worse(values, level, members, draws, np.random.default_rng([seed, number]), weights)
    pairs = iter(zip(found.tolist(), holm(found).tolist(), strict=True))
    return [next(pairs) if cell.has_rest else (None, None) for cell in cells]


def _by_image(
    figure: ByQuery, image_of_query: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64] | None]:
    """The positions (n,) of the images that have a query, the values of their residuals, the level (n,) of each, and the
    weight (n,) of each, if they have any."""
    present, first, query = np.unique(image_of_query, return_index=True, return_inverse=True)
    sums, counts = (np.bincount(query, weights).astype(np.float64) for weights in (figure.values, None))
    return (present, *residual_levels(sums, counts), None if figure.weights is None else figure.weights[first])
