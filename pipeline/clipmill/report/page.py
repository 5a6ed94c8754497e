"""``report.html``: one page that needs no other file and no network. All text in it is escaped by the template engine."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clipmill.report import format as formats
from clipmill.report.document import ClassPart, Report, RetrievalPart
from clipmill.report.parts.probe import classification_figures
from clipmill.report.plots.bars import Bar, bars
from clipmill.report.plots.histogram import histogram
from clipmill.report.plots.lines import lines
from clipmill.report.plots.reliability import reliability_plot
from clipmill.report.plots.shots import shots_plot
from clipmill.report.study_plots import (
    kinds_of,
    slice_hover,
    slice_interval,
    slice_name,
    slice_value,
    slices_plot,
    strengths_plot,
)

_TEMPLATES = Path(__file__).parent / "templates"
_BEST_CLASSES, _WEAKEST_CLASSES = 6, 14
DIRECTIONS = {"t2i": "text → image", "i2t": "image → text"}


def html_text(report: Report) -> str:
    """The whole page."""
    text: str = _environment().get_template("report.html").render(report=report, directions=DIRECTIONS)
    return text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        stylesheet=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
        amount=formats.amount_text,
        titles=formats.TITLES,
        recall_plot=recall_plot,
        curve_plot=curve_plot,
        smaller_plot=smaller_plot,
        class_plot=class_plot,
        reliability_plot=reliability_plot,
        shots_plot=shots_plot,
        definitions=definitions,
        histogram=histogram,
        kinds_of=kinds_of,
        slice_hover=slice_hover,
        slice_interval=slice_interval,
        slice_name=slice_name,
        slice_value=slice_value,
        slices_plot=slices_plot,
        strengths_plot=strengths_plot,
    )
    environment.filters.update(
        value=formats.value_text,
        interval=formats.interval_text,
        hover=formats.hover_text,
        size=formats.size_text,
    )
    return environment


def recall_plot(parts: list[RetrievalPart]) -> Markup:
    """R@1, R@5 and R@10 of both directions with their intervals and ceilings."""
    items = []
    for colour, part in enumerate(parts, start=1):
        for figure in part.figures:
            if figure.title.startswith("R@"):
                limit = part.ceiling[int(figure.title.removeprefix("R@"))]
                items.append(
                    Bar(
                        label=f"{part.direction} {figure.title}",
                        value=figure.value,
                        low=figure.low,
                        high=figure.high,
                        limit=limit,
                        colour=colour,
                        title=f"{part.direction} {figure.title} = {formats.value_text(figure)}, 95% interval "
                        f"{formats.interval_text(figure)}; ceiling {limit:.2%}",
                    )
                )
    return bars("Recall with 95% intervals", items)


def curve_plot(parts: list[RetrievalPart]) -> Markup:
    """R@K against K."""
    last = min(max(part.curve) for part in parts)
    series: dict[str, dict[int, float]] = {
        str(part.direction): {k: share for k, share in part.curve.items() if k <= last} for part in parts
    }
    return lines("Recall by number of results", series, "results looked at (K)")


def smaller_plot(parts: list[RetrievalPart]) -> Markup:
    """R@1 against the size of the gallery."""
    series = {str(part.direction): part.smaller[1] for part in parts}
    return lines("R@1 by size of the gallery", series, "items in the gallery", point="R@1 of {:,}")


def class_plot(classes: list[ClassPart]) -> Markup:
    """Recall a class, the weakest last; of many, the best and the weakest few."""
    few = len(classes) <= _BEST_CLASSES + _WEAKEST_CLASSES
    shown = classes if few else [*classes[:_BEST_CLASSES], *classes[-_WEAKEST_CLASSES:]]
    items = [
        Bar(part.name, part.recall, f"{part.name}: {part.recall:.2%} of {part.support:,} images") for part in shown
    ]
    return bars("Recall by class", items, left=150)


def definitions(report: Report) -> list[tuple[list[str], str]]:
    """Each definition on the page once, with the titles of the figures that it defines."""
    through = report.fidelity.through if report.fidelity else None
    measured = (report.zero_shot, report.alignment, report.space, report.slices, report.fidelity)
    parts = [*report.retrieval, *report.protocols, through, *measured]
    figures = [figure for part in parts if part is not None for figure in part.figures] + report.cost
    figures += classification_figures(report)
    titles: dict[str, list[str]] = {}
    for figure in figures:
        named = titles.setdefault(figure.definition, [])
        if figure.title not in named:
            named.append(figure.title)
    return [(named, definition) for definition, named in titles.items()]
