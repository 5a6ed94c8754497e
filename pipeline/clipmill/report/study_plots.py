"""Plots of slices and of robustness from the parts of the document."""

from markupsafe import Markup

from clipmill.report import format as formats
from clipmill.report.document import Figure, RobustnessPart, SlicedColumnPart, SliceFigure, SlicePart, VariationPart
from clipmill.report.plots.bars import Bar, bars
from clipmill.report.plots.strengths import Mark, strengths

_STRONGEST = 5


def slice_name(part: SlicePart) -> str:
    """What a slice is called on the page."""
    if part.kind == "null":
        return "no value"
    return part.text or "(empty text)"


def slice_value(measured: SliceFigure, whole: Figure) -> str:
    """The value in the whole figure's unit."""
    return formats.number_text(measured.value, whole.unit)


def slice_interval(measured: SliceFigure, whole: Figure) -> str:
    """The 95% interval, or nothing."""
    if measured.low is None or measured.high is None:
        return ""
    low, high = (formats.number_text(end, whole.unit).rstrip("%") for end in (measured.low, measured.high))
    return f"{low}–{high}"


def slice_hover(part: SlicePart, measured: SliceFigure, whole: Figure) -> str:
    """All that is known of one figure of a slice, and its definition."""
    text = f"{slice_name(part)}: {whole.title} = {slice_value(measured, whole)}"
    interval = slice_interval(measured, whole)
    text += f", 95% interval {interval}" if interval else ""
    text += f", n = {measured.n:,}; over all {formats.value_text(whole)}."
    if measured.p_value is not None and measured.adjusted is not None:
        text += f" p = {measured.p_value:.2g}, adjusted {measured.adjusted:.2g}."
    return f"{text} {whole.definition}"


def slices_plot(column: SlicedColumnPart, whole: Figure) -> Markup:
    """The first figure of every slice that has it, with the whole dataset's as a dashed line; worse slices differ."""
    items = []
    for part in column.slices:
        for measured in part.figures:
            if measured.name == whole.name:
                items.append(
                    Bar(
                        label=slice_name(part),
                        value=measured.value,
                        low=measured.low,
                        high=measured.high,
                        limit=whole.value,
                        colour=2 if measured.worse else 1,
                        title=slice_hover(part, measured, whole),
                    )
                )
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
    series = []
    for clean in part.clean:
        marks = [
            Mark(
                strength=strength,
                value=figure.value,
                low=figure.low,
                high=figure.high,
                title=f"{kind} {strength} ({amount}): {figure.title} = {formats.value_text(figure)}, 95% interval "
                f"{formats.interval_text(figure)}",
            )
            for strength, amount, figures in steps
            for figure in figures
            if figure.name == clean.name
        ]
        series.append((clean.title, marks))
    return strengths(f"Quality under {kind}", series, _STRONGEST)
