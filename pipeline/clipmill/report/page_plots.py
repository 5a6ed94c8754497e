"""The plots of the report's page, and what it says of slices and variations, from the parts of the document."""

from collections.abc import Sequence

from markupsafe import Markup

from clipmill.evaluation.figures import Figure, find
from clipmill.evaluation.results import RobustnessPart, SlicedColumnPart, SliceFigure, SlicePart, VariationPart
from clipmill.report.format import ends_text, interval_text, number_text, value_text
from clipmill.report.plots.curves import Mark, counts, shots, strengths
from clipmill.report.plots.rows import Bar, bars
from clipmill.report.schema.classification import ClassPart, ProbePart
from clipmill.report.schema.retrieval import RetrievalPart

_BEST_CLASSES, _WEAKEST_CLASSES = 6, 14
_STRONGEST = 5


def recall_plot(parts: Sequence[RetrievalPart], *, leads: bool = False) -> Markup:
    """The recalls of both directions that have a ceiling, with their intervals; a bar may lead to the queries that missed."""
    items = []
    for colour, part in enumerate(parts, start=1):
        for k, limit in part.ceiling.items():
            figure = find(part.figures, f"{part.direction}.recall@{k}")
            if figure:
                label = f"{part.direction} {figure.title}"
                title = f"{_said(label, figure)}; ceiling {limit:.2%}"
                to = {"task": part.direction, "beyond": str(k)} if leads else {}
                items.append(Bar(label, figure.value, title, figure.low, figure.high, limit, colour, to))
    return bars("Recall with 95% intervals", items)


def curve_plot(parts: Sequence[RetrievalPart]) -> Markup:
    """R@K against K."""
    last = min(max(part.curve) for part in parts)
    series: dict[str, list[Mark]] = {
        part.direction: [
            Mark(k, share, f"{part.direction} R@{k:,} = {share:.2%}") for k, share in part.curve.items() if k <= last
        ]
        for part in parts
    }
    return counts("Recall by number of results", series, "results considered (K)")


def smaller_plot(parts: Sequence[RetrievalPart]) -> Markup:
    """R@1 against the size of the gallery."""
    series: dict[str, list[Mark]] = {
        part.direction: [
            Mark(size, share, f"{part.direction} R@1 of {size:,} = {share:.2%}")
            for size, share in part.smaller[1].items()
        ]
        for part in parts
    }
    return counts("R@1 by size of the gallery", series, "items in the gallery")


def class_plot(classes: Sequence[ClassPart], *, leads: bool = False) -> Markup:
    """Recall by class, the weakest last; of many, the best and the weakest few. A bar may lead to the images that missed."""
    few = len(classes) <= _BEST_CLASSES + _WEAKEST_CLASSES
    shown = classes if few else [*classes[:_BEST_CLASSES], *classes[-_WEAKEST_CLASSES:]]
    items = [
        Bar(
            part.name,
            part.recall,
            f"{part.name}: {part.recall:.2%} of {part.support:,} images",
            leads={"task": "zero-shot", "beyond": "1", "label": part.name} if leads else {},
        )
        for part in shown
    ]
    return bars("Recall by class", items, left=150)


def shots_plot(part: ProbePart) -> Markup:
    """Few-shot accuracy with its intervals; the probe of all training images and zero-shot for reference."""
    marks = [
        Mark(one.shots, one.figure.value, _said(one.figure.title, one.figure), one.figure.low, one.figure.high)
        for one in part.shots
    ]
    figures = [("all training images", part.figures[0])]
    figures += [("zero-shot", part.zero_shot)] if part.zero_shot else []
    levels = [(f"{name}: {value_text(figure)}", figure.value) for name, figure in figures]
    return shots("Accuracy by training images per class", marks, levels, "training images per class")


def slice_name(part: SlicePart) -> str:
    """What a slice is called on the page."""
    if part.kind == "null":
        return "no value"
    return part.text or "(empty text)"


def slice_value(measured: SliceFigure, whole: Figure) -> str:
    """The value in the whole figure's unit."""
    return number_text(measured.value, whole.unit)


def slice_interval(measured: SliceFigure, whole: Figure) -> str:
    """The 95% interval, or nothing."""
    return ends_text(measured.low, measured.high, whole.unit)


def slice_hover(part: SlicePart, measured: SliceFigure, whole: Figure) -> str:
    """All that is known of one figure of a slice, and its definition."""
    text = f"{slice_name(part)}: {whole.title} = {slice_value(measured, whole)}"
    interval = slice_interval(measured, whole)
    text += f", 95% interval {interval}" if interval else ""
    text += f", n = {measured.n:,}; over all {value_text(whole)}."
    if measured.p_value is not None and measured.adjusted is not None:
        text += f" p = {measured.p_value:.2g}, adjusted {measured.adjusted:.2g}."
    return f"{text} {whole.definition}"


def slices_plot(column: SlicedColumnPart, whole: Figure, *, leads: bool = False) -> Markup:
    """One figure of every slice that has it, with the whole dataset's as a dashed line; worse slices differ. A bar may lead to
    the slice's queries."""
    task = whole.key.partition(".")[0]
    items = [
        Bar(
            label=slice_name(part),
            value=measured.value,
            title=slice_hover(part, measured, whole),
            low=measured.low,
            high=measured.high,
            limit=whole.value,
            colour=2 if measured.worse else 1,
            leads={"task": task, "column": column.column, "slice": part.text} if leads else {},
        )
        for part in column.slices
        for measured in part.figures
        if measured.key == whole.key
    ]
    return bars(f"{whole.title} by {column.column}", items, left=150)


def kinds_of(part: RobustnessPart) -> dict[str, list[VariationPart]]:
    """The variations of each kind, in rising strength."""
    kinds: dict[str, list[VariationPart]] = {}
    for variation in sorted(part.variations, key=lambda variation: variation.strength):
        kinds.setdefault(variation.name, []).append(variation)
    return kinds


def strengths_plot(part: RobustnessPart, kind: str) -> Markup:
    """Shares against the strength of one kind of corruption; 0 is the clean picture."""
    steps = [(0, "none", part.clean)]
    steps += [(one.strength, one.amount, one.figures) for one in kinds_of(part)[kind]]
    series = {
        clean.title: [
            Mark(
                strength,
                figure.value,
                _said(f"{kind} {strength} ({amount}): {figure.title}", figure),
                figure.low,
                figure.high,
            )
            for strength, amount, figures in steps
            if (figure := find(figures, clean.key))
        ]
        for clean in part.clean
    }
    return strengths(f"Quality under {kind}", series, _STRONGEST)


def _said(label: str, figure: Figure) -> str:
    interval = interval_text(figure)
    return f"{label} = {value_text(figure)}" + (f", 95% interval {interval}" if interval else "")
