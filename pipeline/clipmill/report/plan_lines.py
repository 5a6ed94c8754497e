"""The plan of a run in lines of text, before it and after."""

from clipmill.core.manifests import Foresight
from clipmill.report.format import TITLES, amount_text


def plan_lines(foresight: Foresight) -> list[str]:
    """A line a figure of the plan of a run; of one that has happened, with what it was."""
    lines: list[str] = []
    over = any(one.happened is not None for one in foresight.figures)
    for one in foresight.figures:
        title, planned = TITLES[one.name], amount_text(one.planned, one.unit)
        if not over:
            low, high = amount_text(one.low, one.unit), amount_text(one.high, one.unit)
            lines.append(f"{title}: {planned} ({low} to {high})" + ("" if lines else f", {foresight.basis}"))
        elif one.happened is None or one.difference is None:
            lines.append(f"{title}: planned {planned}; what it was is not known of a run in several starts")
        else:
            was = amount_text(one.happened, one.unit)
            lines.append(f"{title}: planned {planned}, was {was}: {one.difference:+.1%}")
    return lines
