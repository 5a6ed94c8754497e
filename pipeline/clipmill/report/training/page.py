"""``training.html``: one page that needs no other file and no network. All text in it is escaped by the template engine."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from clipmill.report.page_shell import page_environment
from clipmill.report.plots.lines import Measured, over_steps
from clipmill.report.training.document import MEASURED, VALIDATED, TrainingReport


def html_text(report: TrainingReport) -> str:
    """The whole page."""
    text: str = _environment().get_template("training.html").render(report=report, document=report)
    return text


@cache
def _environment() -> Environment:
    return page_environment(curves=curves, validated=validated)


def curves(report: TrainingReport) -> list[tuple[str, str, Markup]]:
    """Title, definition and plot of everything that was noted of two steps or more."""
    return [
        *_plots(report.losses, MEASURED),
        *_plots([entry for entry in report.validations if "share" not in entry], VALIDATED),
    ]


def _plots(
    entries: Sequence[Mapping[str, Any]], titles: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, str, Markup]]:
    for key, (title, definition) in titles.items():
        found = {entry["step"]: entry[key] for entry in entries if entry.get(key) is not None}
        points = [Measured(step, value, f"step {step}: {value:g}") for step, value in sorted(found.items())]
        if len(points) > 1:
            yield title, definition, over_steps(title, points)


def validated(report: TrainingReport) -> list[tuple[str, str]]:
    """Keys and titles of what validations measured at all."""
    return [
        (key, title)
        for key, (title, _) in VALIDATED.items()
        if any(entry.get(key) is not None for entry in report.validations)
    ]
