"""Lines of shares over a few whole strengths from 0, with a whisker for each interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clipmill.report.plots.canvas import WIDTH, hover, line, path, svg, text

_LEFT, _RIGHT, _TOP, _HEIGHT = 44, 64, 10, 130
_LABEL_GAP = 14


@dataclass(frozen=True)
class Mark:
    """A share at a strength, with its interval; ``title`` shows on hover."""

    strength: int
    value: float
    title: str
    low: float | None = None
    high: float | None = None


def strengths(label: str, series: Sequence[tuple[str, Sequence[Mark]]], last: int) -> Markup:
    """One line a name, over strengths from 0 to ``last``; the name stands at the line's end."""
    span, bottom = WIDTH - _LEFT - _RIGHT, _TOP + _HEIGHT

    def x(strength: float) -> float:
        return _LEFT + 6 + (span - 12) * strength / last

    def y(share: float) -> float:
        return bottom - _HEIGHT * min(max(share, 0.0), 1.0)

    body = []
    for step in (0, 0.25, 0.5, 0.75, 1):
        body += [line(_LEFT, y(step), WIDTH - _RIGHT, y(step), "grid")]
        body += [text(_LEFT - 8, y(step) + 4, f"{step:.0%}", "tick", "end")]
    for strength in range(last + 1):
        body += [text(x(strength), bottom + 17, str(strength) if strength else "none", "tick", "middle")]
    ends: list[tuple[float, float, str, int]] = []
    for number, (name, marks) in enumerate(series, start=1):
        body.append(path([(x(mark.strength), y(mark.value)) for mark in marks], f"stroke{number}"))
        for mark in marks:
            across, up = x(mark.strength), y(mark.value)
            shapes = [Markup('<circle cx="{:.1f}" cy="{:.1f}" r="9" class="catch"/>').format(across, up)]
            if mark.low is not None and mark.high is not None:
                shapes.append(line(across, y(mark.low), across, y(mark.high), "whisker"))
            shapes.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" class="fill{}"/>').format(across, up, number))
            body.append(hover(shapes, mark.title))
        ends.append((y(marks[-1].value), x(marks[-1].strength), name, number))
    lowest = 0.0
    for up, across, name, number in sorted(ends):
        lowest = max(up + 4, lowest + _LABEL_GAP)
        body.append(text(across + 10, lowest, name, f"name{number}"))
    return svg(bottom + 24, label, body)
