"""``comparison.html``: one page that needs no other file and no network. All text in it is escaped by the template engine."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clipmill.evaluation.statistics.bootstrap import LEVEL
from clipmill.report import format as formats
from clipmill.report.comparison import format as differences_format
from clipmill.report.comparison.document import VERDICT, Candidate, Change, Compared, Comparison
from clipmill.report.document import Figure
from clipmill.report.page import DIRECTIONS
from clipmill.report.plots.differences import Dot, differences
from clipmill.report.plots.panels import Panel, Point, panels

_HERE = Path(__file__).parent / "templates"
_REPORT = Path(__file__).parents[1] / "templates"
_QUALITY = (("text → image", "R@1"), ("zero-shot", "acc1"), ("image → text", "R@1"))
_BYTES = (("index", "bytes_per_vector"), ("cost", "bytes_per_stored_vector"))
_KINDS = {"better": "better", "worse": "worse", "no visible difference": "same"}


def html_text(comparison: Comparison) -> str:
    """The whole page."""
    text: str = _environment().get_template("comparison.html").render(comparison=comparison, directions=DIRECTIONS)
    return text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader([_HERE, _REPORT]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    styles = [
        (_REPORT / "style.css").read_text(encoding="utf-8"),
        (_HERE / "comparison.css").read_text(encoding="utf-8"),
    ]
    environment.globals.update(
        stylesheet=Markup("\n").join(Markup(style) for style in styles),
        difference_plot=difference_plot,
        cost_plot=cost_plot,
        is_corrected_away=is_corrected_away,
        definitions=definitions,
        verdict_definition=VERDICT,
        kinds=_KINDS,
    )
    environment.filters.update(
        value=formats.value_text,
        interval=formats.interval_text,
        hover=formats.hover_text,
        size=formats.size_text,
        number=formats.number_text,
        change=differences_format.change_text,
        change_range=differences_format.range_text,
        p=differences_format.p_text,
    )
    return environment


def is_corrected_away(change: Change) -> bool:
    """Whether a visible difference does not stand once all figures are judged together."""
    return change.verdict != "no visible difference" and change.p_holm > 1 - LEVEL


def difference_plot(candidate: Candidate) -> Markup | None:
    """Differences of all proportions that were tested, in percentage points; None where there are none."""
    dots = [
        Dot(
            label=f"{task.task} {change.title}",
            value=100 * change.difference,
            low=100 * change.low,
            high=100 * change.high,
            title=f"{task.title} {change.title}: {differences_format.change_text(change)}, 95% interval "
            f"{differences_format.range_text(change)}, {change.verdict}",
            kind=_KINDS[change.verdict],
        )
        for task in candidate.tasks
        for change in task.changes
        if change.unit == "proportion"
    ]
    return differences("Differences with 95% intervals", dots, "difference in points") if dots else None


def cost_plot(comparison: Comparison) -> tuple[str, Markup] | None:
    """Quality against images a second, bytes a vector and GFLOPs, as far as known: what the quality is, and the plot."""
    tables = [_figures(comparison, number) for number in range(len(comparison.reports))]
    quality = next((key for key in _QUALITY if sum(_quality(table, key) is not None for table in tables) > 1), None)
    if quality is None:
        return None
    found: dict[str, list[Point]] = {"images a second": [], "bytes a vector": [], "GFLOPs an image": []}
    for number, (report, table) in enumerate(zip(comparison.reports, tables, strict=True)):
        figure = _quality(table, quality)
        if figure is None:
            continue
        size = next((table[key] for key in _BYTES if key in table), None)
        speed = table.get(("cost", "images_per_second"))
        gflops = report.published.image_gflops if report.published else None
        for axis, value in zip(
            found, (speed.value if speed else None, size.value if size else None, gflops), strict=True
        ):
            if value:
                found[axis].append(_point(number, report, figure, value, axis))
    shown = [Panel(axis, points) for axis, points in found.items() if points]
    return (f"{quality[0]} {quality[1]}", panels("Quality against cost", shown)) if shown else None


def _figures(comparison: Comparison, number: int) -> dict[tuple[str, str], Figure]:
    return {(row.group, row.name): figure for row in comparison.rows if (figure := row.figures[number])}


def _quality(table: dict[tuple[str, str], Figure], key: tuple[str, str]) -> Figure | None:
    return next((figure for (group, _), figure in table.items() if group == key[0] and figure.title == key[1]), None)


def _point(number: int, report: Compared, figure: Figure, value: float, axis: str) -> Point:
    return Point(
        x=value,
        y=figure.value,
        low=figure.low,
        high=figure.high,
        mark=chr(ord("A") + number % 26),
        title=f"{report.name}: {figure.title} {formats.value_text(figure)} at {value:,.4g} {axis}",
        colour=1 if number == 0 else 2,
    )


def definitions(comparison: Comparison) -> list[tuple[list[str], str]]:
    """Each definition once, with the titles of the figures that it defines."""
    titles: dict[str, list[str]] = {}
    for row in comparison.rows:
        named = titles.setdefault(row.definition, [])
        if row.title not in named:
            named.append(row.title)
    return [(named, definition) for definition, named in titles.items()]
