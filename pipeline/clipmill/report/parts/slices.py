"""Figures by slices as a part of the document."""

from clipmill.evaluation.classification.zero_shot import ZeroShot
from clipmill.evaluation.retrieval.retrieval import Retrieval
from clipmill.evaluation.studies.slices import LEVEL, Slice, Slices
from clipmill.evaluation.studies.slices import SliceFigure as Measured
from clipmill.report.document import SlicedColumnPart, SliceFigure, SlicePart, SlicesPart, Unit
from clipmill.report.parts.figures import bounds, figure

_CLIP_SCORE = "Mean cosine of captions with their own image."
FIGURES: dict[str, tuple[str, Unit, object]] = {
    "t2i_recall@1": ("t2i R@1", "proportion", Retrieval.recall),
    "t2i_recall@10": ("t2i R@10", "proportion", Retrieval.recall),
    "i2t_recall@1": ("i2t R@1", "proportion", Retrieval.recall),
    "i2t_recall@10": ("i2t R@10", "proportion", Retrieval.recall),
    "acc1": ("acc1", "proportion", ZeroShot.acc1),
    "clip_score": ("CLIP score", "cosine", _CLIP_SCORE),
}
"""Title, unit and definition of what is parted."""


def slices_part(slices: Slices) -> SlicesPart:
    """The whole's figures, then every column's slices."""
    return SlicesPart(
        figures=[figure(name, *FIGURES[name], interval) for name, interval in slices.overall.items()],
        columns=[
            SlicedColumnPart(column=column.column, slices=[_slice_part(part) for part in column.slices])
            for column in slices.columns
        ],
        comparisons=slices.comparisons,
        level=LEVEL,
    )


def _slice_part(part: Slice) -> SlicePart:
    return SlicePart(
        kind=part.name.kind,
        text=part.name.text,
        images=part.images,
        figures=[_slice_figure(measured) for measured in part.figures],
    )


def _slice_figure(measured: Measured) -> SliceFigure:
    ends = bounds(measured.interval)
    return SliceFigure(
        name=measured.name,
        value=measured.interval.value,
        low=ends.get("low"),
        high=ends.get("high"),
        n=measured.interval.n,
        p_value=measured.p_value,
        adjusted=measured.adjusted,
        worse=measured.is_worse,
    )


def slices_sentence(part: SlicesPart) -> str:
    """How many slices do worse, for the summary."""
    worse = sum(any(figure.worse for figure in one.figures) for column in part.columns for one in column.slices)
    total = sum(len(column.slices) for column in part.columns)
    columns = ", ".join(column.column for column in part.columns)
    if not worse:
        return f"Of {total:,} slices of the data by {columns}, none does significantly worse than the rest."
    verb = "does" if worse == 1 else "do"
    return f"Of {total:,} slices of the data by {columns}, {worse:,} {verb} significantly worse than the rest."
