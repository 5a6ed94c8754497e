"""Several reports to one comparison: figures side by side, and each report against the first on the queries they share."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from clipmill.core.environment import software
from clipmill.evaluation.statistics.permutation import holm
from clipmill.report.comparison.document import Candidate, Compared, Comparison, TaskChange
from clipmill.report.comparison.names import short_names
from clipmill.report.comparison.pair import Match
from clipmill.report.comparison.read import Opened
from clipmill.report.comparison.sides import rows_of, settings_of
from clipmill.report.comparison.summary import notes, summary
from clipmill.report.comparison.tasks import TASKS, Sampling, Side, compare_task, tasks_of
from clipmill.report.comparison.thumbnails import with_pictures
from clipmill.report.published import published_of


def compare(
    opened: Sequence[Opened], match: Match, sampling: Sampling, command: str, settings: dict[str, Any]
) -> Comparison:
    """The document; ``opened`` are two reports or more, the first of which is the baseline."""
    names = short_names([report.location.uri for report in opened])
    baseline = Side(names[0], opened[0], opened[0].queries())
    candidates = []
    for number in range(1, len(opened)):
        side = Side(names[number], opened[number], opened[number].queries())
        candidates.append(
            Candidate(report=number, tasks=with_pictures(_tasks(baseline, side, match, sampling), opened[0]))
        )
    reports = [_compared(name, report) for name, report in zip(names, opened, strict=True)]
    rows = rows_of([report.report for report in opened])
    return Comparison(
        created=datetime.now(timezone.utc),
        command=command,
        settings=settings,
        reports=reports,
        summary=summary(reports, rows, candidates),
        rows=rows,
        candidates=candidates,
        settings_compared=settings_of([report.report for report in opened]),
        notes=notes([report.report for report in opened], reports, candidates),
        software=software(),
    )


def _tasks(first: Side, second: Side, match: Match, sampling: Sampling) -> list[TaskChange]:
    """All tasks that either report measured, p-values corrected over all of them."""
    measured = [tasks_of(side.opened.report) for side in (first, second)]
    tasks = [
        compare_task(task, first, second, match, sampling) for task in TASKS if any(task in found for found in measured)
    ]
    adjusted = iter(holm(np.array([change.p for task in tasks for change in task.changes])).tolist())
    return [
        task.model_copy(
            update={"changes": [change.model_copy(update={"p_holm": next(adjusted)}) for change in task.changes]}
        )
        for task in tasks
    ]


def _compared(name: str, opened: Opened) -> Compared:
    report = opened.report
    return Compared(
        name=name,
        uri=opened.location.uri,
        sha256=opened.sha256,
        created=report.created,
        dataset=report.dataset.name,
        embeddings=report.dataset.uri,
        embeddings_sha256=report.inputs.get("embeddings manifest"),
        model=report.model.name if report.model else None,
        pretrained=report.model.pretrained if report.model else None,
        published=report.published or published_of(report.model),
    )
