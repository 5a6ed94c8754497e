"""The comparison in sentences: what got better and worse, by how much, and what to know when reading it."""

from collections.abc import Sequence

from clipmill.core.intervals import LEVEL
from clipmill.report.comparison.document import Candidate, Change, Compared, Row, TaskChange
from clipmill.report.document import Report
from clipmill.report.format import change_text, number_text, signed_range

_HEADLINES = ("recall@1", "acc1")
"""The metric of each task that its sentence is about."""
_INDEX = ("index.latency_p50", "index.bytes_per_vector")
"""What the sentence on an index says, besides its recall."""


def summary(reports: Sequence[Compared], rows: Sequence[Row], candidates: Sequence[Candidate]) -> list[str]:
    """A few sentences for each report, the baseline named in each."""
    sentences = []
    first = reports[0]
    for candidate in candidates:
        second = reports[candidate.report]
        if first.embeddings_sha256 is not None and first.embeddings_sha256 == second.embeddings_sha256:
            sentences.append(
                f"{first.name} and {second.name} are about the same embeddings: the model's figures are the same, and only "
                "the index or the settings can differ."
            )
        sentences += [_task(first, second, task) for task in candidate.tasks]
        changes = [change for task in candidate.tasks for change in task.changes]
        if changes:
            sentences.append(_counts(second, changes))
        sentences += _index(first, second, rows, candidate.report)
    return sentences


def _task(first: Compared, second: Compared, task: TaskChange) -> str:
    title = task.title[0].upper() + task.title[1:]
    if task.why_not:
        return f"{title}, {second.name} against {first.name}: side by side only, not tested: {task.why_not}."
    change = next(change for change in task.changes if change.metric in _HEADLINES)
    flips = task.flips
    assert flips is not None  # what was tested has flips
    return (
        f"{title}: {second.name} has {number_text(change.second, change.unit)} {change.title}, {first.name} "
        f"{number_text(change.first, change.unit)}: {change.verdict}, {change_text(change.difference, change.unit)} "
        f"({signed_range(change.low, change.high, change.unit)}). "
        f"Of {task.shared:,} queries, {flips.lost:,} lost and {flips.gained:,} gained their {flips.hit}."
    )


def _counts(second: Compared, changes: Sequence[Change]) -> str:
    better, worse = (sum(change.verdict == word for change in changes) for word in ("better", "worse"))
    stand = sum(change.verdict != "no visible difference" and change.p_holm <= 1 - LEVEL for change in changes)
    text = f"Of {len(changes)} figures tested, {second.name} is better in {better} and worse in {worse}"
    return f"{text}; {stand} of these stand after correction for as many comparisons." if better + worse else f"{text}."


def _index(first: Compared, second: Compared, rows: Sequence[Row], number: int) -> list[str]:
    of_index = [row for row in rows if row.part == "index" and row.figures[0] and row.figures[number]]
    chosen = [*of_index[:1], *(row for row in of_index if row.key in _INDEX)]
    parts = [
        f"{row.title} {number_text(after.value, row.unit)} against {number_text(before.value, row.unit)}"
        for row in chosen
        if (before := row.figures[0]) and (after := row.figures[number])
    ]
    return [f"Index, {second.name} against {first.name}: {', '.join(parts)}."] if parts else []


def notes(reports: Sequence[Report], compared: Sequence[Compared], candidates: Sequence[Candidate]) -> list[str]:
    """What a reader should know: galleries that differ, queries that are not in both, machines that differ."""
    found = []
    first = compared[0]
    for candidate in candidates:
        second = compared[candidate.report]
        for task in candidate.tasks:
            if task.why_not:
                continue
            of_all = max(task.first, task.second)
            if task.sampled_of is not None:
                found.append(
                    f"{task.title}, {second.name} against {first.name}: {task.shared:,} queries were tested that both ranked, "
                    f"of {task.sampled_of:,} that they were drawn from."
                )
            elif task.shared < of_all:
                found.append(
                    f"{task.title}, {second.name} against {first.name}: {task.shared:,} of {of_all:,} queries are in both "
                    "and were tested; the figures of each report are over all of its own."
                )
            if task.first_gallery != task.second_gallery:
                found.append(
                    f"{task.title}: {first.name} searched {task.first_gallery:,}, {second.name} {task.second_gallery:,}; "
                    "a larger gallery makes the same query harder."
                )
    machines = {str(sorted(report.hardware.items())) for report in reports}
    if len(machines) > 1:
        found.append("The reports were made on different machines: latency and throughput do not compare.")
    return found
