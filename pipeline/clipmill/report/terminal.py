"""The short table of results that a terminal shows."""

from collections.abc import Sequence

from clipmill.evaluation.figures import DIRECTIONS, Figure
from clipmill.report.document import Report
from clipmill.report.findings import SHOWN
from clipmill.report.format import number_text

_SHOWN = ("recall@1", "recall@5", "recall@10", "median_rank")
"""Metrics of a direction of retrieval that fit a line."""


def report_lines(report: Report) -> list[str]:
    """Each task on a line with its figures, a line for each thing that is absent, and what to do next."""
    lines = []
    if report.texts:
        lines += [f"{figure.title:20}  {_listed_value(figure)}" for figure in report.texts.figures]
    for part in report.retrieval:
        figures = [figure for figure in part.figures if figure.metric in _SHOWN]
        lines.append(
            f"{DIRECTIONS[part.direction]}  {_listed(figures)}  ({part.asked}, {part.gallery:,} in the gallery; "
            f"ceiling of R@1 {part.ceiling[1]:.4f})"
        )
        if part.sampled:
            lines.append(f"              {part.drawn}")
    if report.zero_shot:
        lines.append(f"zero-shot     {_listed(report.zero_shot.figures)}  ({len(report.zero_shot.classes):,} classes)")
    if report.probe:
        lines.append(f"trained       {_listed(report.probe.figures)}  ({report.probe.test:,} test images)")
        shots = "  ".join(f"{part.shots}: {part.figure.value:.4f}" for part in report.probe.shots)
        lines.append(f"few-shot      {shots}  (images per class)")
    if report.fidelity:
        lines.append(f"index         {_listed(report.fidelity.figures)}  (asked with {report.fidelity.asked_with})")
    lines += [f"not measured  {absence.what}: {absence.why}" for absence in report.absences]
    for finding in report.findings[:SHOWN]:
        lines += [f"next          {finding.text}", f"              {finding.command}"]
    return lines


def _listed(figures: Sequence[Figure]) -> str:
    return "  ".join(f"{figure.title} {_number(figure)}" for figure in figures)


def _listed_value(figure: Figure) -> str:
    ends = "" if figure.low is None or figure.high is None else f"  ({figure.low:.4f} to {figure.high:.4f})"
    return f"{_number(figure)}{ends}"


def _number(figure: Figure) -> str:
    """Proportions as fractions, as papers and other tools print them."""
    return f"{figure.value:.4f}" if figure.unit == "proportion" else number_text(figure.value, figure.unit)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
