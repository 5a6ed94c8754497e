"""A line over steps: what was measured on the way, one plot a measure."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clipmill.report.plots.canvas import WIDTH, circle, hover, line, path, round_steps, svg, text

_LEFT, _RIGHT, _TOP, _HEIGHT = 52, 12, 10, 120


@dataclass(frozen=True)
class Measured:
    """One value at one step; ``title`` is shown on hover."""

    step: int
    value: float
    title: str


def over_steps(label: str, points: Sequence[Measured]) -> Markup:
    """The points in the order of their steps, at least one, joined by a line."""
    last = max(point.step for point in points)
    values = [point.value for point in points]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - margin, high + margin
    bottom = _TOP + _HEIGHT

    def x(step: int) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * step / last

    def y(value: float) -> float:
        return bottom - _HEIGHT * (value - low) / (high - low)

    body = []
    for level in round_steps(low, high):
        body += [
            line(_LEFT, y(level), WIDTH - _RIGHT, y(level), "grid"),
            text(_LEFT - 8, y(level) + 4, f"{level:g}", "tick", "end"),
        ]
    body.append(line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "axis"))
    for step in round_steps(0, last):
        body.append(text(x(round(step)), bottom + 16, f"{step:g}", "tick", "middle"))
    body.append(path([(x(point.step), y(point.value)) for point in points], "stroke1"))
    body += [hover([circle(x(point.step), y(point.value), 2.5, "fill1")], point.title) for point in points]
    body.append(text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 34, "step", "tick", "middle"))
    return svg(bottom + 40, label, body)
