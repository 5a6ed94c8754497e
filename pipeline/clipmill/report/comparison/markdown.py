"""``comparison.md``: the comparison in short, for a pull request or a chat."""

from collections.abc import Sequence

from clipmill.core.intervals import LEVEL
from clipmill.report.comparison.document import Comparison, FlippedQuery, TaskChange
from clipmill.report.format import change_text, interval_text, number_text, p_text, signed_range
from clipmill.report.markdown import published_lines
from clipmill.report.markdown_text import code, prose, table

_EXAMPLES = 3


def markdown_text(comparison: Comparison) -> str:
    """Summary, tested differences, flipped queries, and all figures side by side."""
    names = [report.name for report in comparison.reports]
    lines = [
        f"## {' and '.join(code(name) for name in names[1:])} against {code(names[0])}",
        "",
        *(f"- {prose(sentence)}" for sentence in comparison.summary),
        "",
    ]
    for candidate in comparison.candidates:
        for task in candidate.tasks:
            if not task.why_not:
                lines += _tested(task, names[0], names[candidate.report])
    lines += table(
        ["Side by side, each over its own data", *(code(name) for name in names)],
        [
            [
                prose(f"{row.group}: {row.title}"),
                *(
                    f"{number_text(f.value, row.unit)} {_range(interval_text(f))}".strip() if f else ""
                    for f in row.figures
                ),
            ]
            for row in comparison.rows
        ],
    )
    for report in comparison.reports:
        if report.published and report.published.figures:
            lines += published_lines(report.published)
    lines += [f"- {prose(note)}" for note in comparison.notes]
    lines += ["", "Ranges are 95% intervals; those of differences resample images, the same in both reports.", ""]
    return "\n".join(lines)


def _tested(task: TaskChange, first: str, second: str) -> list[str]:
    header = [f"{task.title} ({task.shared:,} shared queries)", code(first), code(second), "Difference", "p", "Verdict"]
    rows = [
        [
            prose(change.title),
            number_text(change.first, change.unit),
            number_text(change.second, change.unit),
            f"{change_text(change.difference, change.unit)} ({signed_range(change.low, change.high, change.unit)})",
            p_text(change.p),
            change.verdict
            + (" (not after correction)" if change.p_holm > 1 - LEVEL and not change.verdict.startswith("no") else ""),
        ]
        for change in task.changes
    ]
    lines = table(header, rows)
    if task.flips:
        lines += [f"Lost their {task.flips.hit}: {task.flips.lost:,}; gained it: {task.flips.gained:,}.", ""]
        lines += _flipped("lost", task.flips.lost_examples) + _flipped("gained", task.flips.gained_examples) + [""]
    return lines


def _flipped(word: str, queries: Sequence[FlippedQuery]) -> list[str]:
    return [
        f"- {word}: {code(query.text or query.id)}"
        + (
            f", rank {query.first_rank:,.6g} to {query.second_rank:,.6g}"
            if query.first_rank and query.second_rank
            else ""
        )
        for query in queries[:_EXAMPLES]
    ]


def _range(interval: str) -> str:
    return f"({interval})" if interval else ""
