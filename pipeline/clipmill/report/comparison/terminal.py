"""The short table of differences that a terminal shows."""

from clipmill.report.comparison.document import Comparison
from clipmill.report.format import number_text, p_text, signed_range, signed_text
from clipmill.report.terminal import columns


def comparison_lines(comparison: Comparison) -> list[str]:
    """A table for each report of every figure that was tested, and a line for each task that was not."""
    first = comparison.reports[0].name
    lines = []
    for candidate in comparison.candidates:
        second = comparison.reports[candidate.report].name
        rows = [["figure", first, second, "difference", "95% interval", "p", "verdict"]]
        for task in candidate.tasks:
            rows += [
                [
                    f"{task.title} {change.title}",
                    number_text(change.first, change.unit),
                    number_text(change.second, change.unit),
                    signed_text(change.difference, change.unit),
                    signed_range(change.low, change.high, change.unit),
                    p_text(change.p),
                    change.verdict,
                ]
                for change in task.changes
            ]
        if len(rows) > 1:
            lines += columns(rows)
        for task in candidate.tasks:
            if task.why_not:
                lines.append(f"not tested  {second} against {first}, {task.title}: {task.why_not}")
            elif task.flips:
                lines.append(
                    f"{task.title}: of {task.shared:,} queries, {task.flips.lost:,} lost and {task.flips.gained:,} gained "
                    f"their {task.flips.hit}"
                )
        lines.append("")
    lines += _side_by_side(comparison)
    return lines


def _side_by_side(comparison: Comparison) -> list[str]:
    """The figures of each report over its own data, where something was not tested, and those of texts, index and cost."""
    untested = {task.task for candidate in comparison.candidates for task in candidate.tasks if task.why_not}
    rows = [["side by side", *(report.name for report in comparison.reports)]]
    rows += [
        [
            f"{row.group} {row.title}",
            *(number_text(figure.value, row.unit) if figure else "" for figure in row.figures),
        ]
        for row in comparison.rows
        if row.part in {*untested, "texts", "answers", "index", "cost"}
    ]
    return columns(rows)
