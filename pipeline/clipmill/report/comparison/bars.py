"""Quality bars: drops larger than the user accepts."""

from clipmill.report.comparison.document import Comparison
from clipmill.report.format import number_text


def bars_missed(comparison: Comparison, max_drop: float) -> list[str]:
    """Each proportion that is visibly worse by more than ``max_drop``, and what could not be judged; none where all is
    well. A drop counts where its 95% interval leaves out zero."""
    missed = []
    for candidate in comparison.candidates:
        name = comparison.reports[candidate.report].name
        tested = [change for task in candidate.tasks for change in task.changes if change.unit == "proportion"]
        if not tested:
            why = "; ".join(f"{task.title}: {task.why_not}" for task in candidate.tasks) or "nothing was measured"
            missed.append(f"{name} cannot be judged, as nothing was tested ({why})")
        for task in candidate.tasks:
            for change in task.changes:
                if change.unit == "proportion" and change.high < 0 and -change.difference > max_drop:
                    missed.append(
                        f"{name}: {task.title} {change.title} fell from {number_text(change.first, change.unit)} to "
                        f"{number_text(change.second, change.unit)}, by {100 * -change.difference:.2f} points "
                        f"({100 * max_drop:g} accepted)"
                    )
    return missed
