"""``comparison.html``: one page that needs no other file and no network. All text in it is escaped by the template engine."""

from functools import cache

from jinja2 import Environment
from markupsafe import Markup

from clipmill.core.intervals import LEVEL
from clipmill.evaluation.figures import COMPARED, Figure
from clipmill.report.comparison.document import VERDICT, Candidate, Change, Compared, Comparison
from clipmill.report.format import change_text, signed_range, value_text
from clipmill.report.page_shell import page_environment
from clipmill.report.plots.panels import Panel, Point, panels
from clipmill.report.plots.rows import Dot, differences
from clipmill.report.script import script_with

_HEADLINES = ("recall@1", "recall@10", "acc1")
_QUALITY = ("t2i.recall@1", "zero-shot.acc1", "i2t.recall@1")
"""What quality against cost is shown by: the first of these that two reports have."""
_BYTES = ("index.bytes_per_vector", "cost.bytes_per_stored_vector")
"""What the bytes of a vector are: in the index, or as stored where none was measured."""
_KINDS = {"better": "better", "worse": "worse", "no visible difference": "same"}


def html_text(comparison: Comparison) -> str:
    """The whole page."""
    text: str = (
        _environment()
        .get_template("comparison.html")
        .render(comparison=comparison, document=comparison, script=script_with({}))
    )
    return text


@cache
def _environment() -> Environment:
    return page_environment(
        difference_plot=difference_plot,
        cost_plot=cost_plot,
        is_corrected_away=is_corrected_away,
        is_headline=is_headline,
        signed_range=signed_range,
        verdict_definition=VERDICT,
        kinds=_KINDS,
    )


def is_headline(change: Change) -> bool:
    """True if the change stands on top of the page."""
    return change.metric in _HEADLINES


def is_corrected_away(change: Change) -> bool:
    """True if a visible difference does not stand once all figures are judged together."""
    return change.verdict != "no visible difference" and change.p_holm > 1 - LEVEL


def difference_plot(candidate: Candidate) -> Markup | None:
    """Differences of all proportions that were tested, in percentage points; None where there are none."""
    dots = [
        Dot(
            label=f"{task.task} {change.title}",
            value=100 * change.difference,
            low=100 * change.low,
            high=100 * change.high,
            title=f"{task.title} {change.title}: {change_text(change.difference, change.unit)}, 95% interval "
            f"{signed_range(change.low, change.high, change.unit)}, {change.verdict}",
            kind=_KINDS[change.verdict],
        )
        for task in candidate.tasks
        for change in task.changes
        if change.unit == "proportion"
    ]
    return differences("Differences with 95% intervals", dots, "difference in points") if dots else None


def cost_plot(comparison: Comparison) -> tuple[str, Markup] | None:
    """Quality against images/s, bytes per vector and GFLOPs, as far as known: what the quality is, and the plot."""
    tables = [_figures(comparison, number) for number in range(len(comparison.reports))]
    quality = next((key for key in _QUALITY if sum(key in table for table in tables) > 1), None)
    if quality is None:
        return None
    found: dict[str, list[Point]] = {"images/s": [], "bytes per vector": [], "GFLOPs per image": []}
    for number, (report, table) in enumerate(zip(comparison.reports, tables, strict=True)):
        if quality not in table:
            continue
        speed = table.get("cost.images_per_second")
        size = next((table[key] for key in _BYTES if key in table), None)
        gflops = report.published.image_gflops if report.published else None
        values = (speed.value if speed else None, size.value if size else None, gflops)
        for axis, value in zip(found, values, strict=True):
            if value:
                found[axis].append(_point(number, report, table[quality], value, axis))
    shown = [Panel(axis, points) for axis, points in found.items() if points]
    title = next(row.title for row in comparison.rows if row.key == quality)
    part = COMPARED[quality.partition(".")[0]]
    return (f"{part} {title}", panels("Quality against cost", shown)) if shown else None


def _figures(comparison: Comparison, number: int) -> dict[str, Figure]:
    return {row.key: figure for row in comparison.rows if (figure := row.figures[number])}


def _point(number: int, report: Compared, figure: Figure, value: float, axis: str) -> Point:
    return Point(
        x=value,
        y=figure.value,
        low=figure.low,
        high=figure.high,
        mark=chr(ord("A") + number % 26),
        title=f"{report.name}: {figure.title} {value_text(figure)} at {value:,.4g} {axis}",
        colour=1 if number == 0 else 2,
    )
