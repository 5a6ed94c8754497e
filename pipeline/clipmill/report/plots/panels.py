"""Points in several panels beside each other that share the upright axis, each with a logarithmic axis of its own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clipmill.report.plots.canvas import WIDTH, line, mark, round_steps, svg, text

_LEFT, _RIGHT, _TOP, _HEIGHT, _GAP = 44, 10, 12, 190, 26
_LEAST_SPAN = 2.0
_NAME_WIDTH, _NAME_HEIGHT = 12, 13


@dataclass(frozen=True)
class Point:
    """``x`` > 0 in the panel's unit, ``y`` a share from 0 to 1; ``mark`` names the point on the plot, ``title`` on hover."""

    x: float
    y: float
    mark: str
    title: str
    low: float | None = None
    high: float | None = None
    colour: int = 1


@dataclass(frozen=True)
class Panel:
    """One panel: what lies along it, and its points, at least one."""

    title: str
    points: Sequence[Point]


def panels(label: str, items: Sequence[Panel]) -> Markup:
    """All panels in one picture."""
    points = [point for panel in items for point in panel.points]
    lows = [point.y if point.low is None else point.low for point in points]
    highs = [point.y if point.high is None else point.high for point in points]
    margin = max(0.01, 0.1 * (max(highs) - min(lows)))
    low, high = max(0.0, min(lows) - margin), min(1.0, max(highs) + margin)
    span = (WIDTH - _LEFT - _RIGHT - _GAP * (len(items) - 1)) / len(items)
    bottom = _TOP + _HEIGHT

    def y(value: float) -> float:
        return bottom - _HEIGHT * (value - low) / (high - low)

    digits = max(0, -math.floor(math.log10(high - low)) - 2 + 1)
    body = [text(_LEFT - 8, y(step) + 4, f"{step:.{digits}%}", "tick", "end") for step in round_steps(low, high)]
    for number, panel in enumerate(items):
        left = _LEFT + number * (span + _GAP)
        body += [line(left, y(step), left + span, y(step), "grid") for step in round_steps(low, high)]
        body.append(line(left, bottom, left + span, bottom, "axis"))
        body += _panel(panel, left, span, bottom, y)
        body.append(text(left + span / 2, bottom + 35, panel.title, "tick", "middle"))
    return svg(bottom + 42, label, body)


def _panel(panel: Panel, left: float, span: float, bottom: float, y: Callable[[float], float]) -> list[Markup]:
    first, last = min(point.x for point in panel.points), max(point.x for point in panel.points)
    widen = max(1.25, math.sqrt(_LEAST_SPAN / (last / first)) if last / first < _LEAST_SPAN else 1.25)
    first, last = first / widen, last * widen

    def x(value: float) -> float:
        return left + span * math.log(value / first) / math.log(last / first)

    body = []
    for step in _ticks(first, last):
        body.append(line(x(step), bottom, x(step), bottom + 4, "axis"))
        body.append(text(x(step), bottom + 17, _short(step), "tick", "middle"))
    for point in panel.points:
        ends = None if point.low is None or point.high is None else (y(point.low), y(point.high))
        body.append(mark(x(point.x), y(point.y), 4.5, f"fill{point.colour}", point.title, ends))
    names: list[tuple[float, float]] = []
    for point in sorted(panel.points, key=lambda point: -point.y):
        across, down = x(point.x) + 8, y(point.y) + 4
        while any(abs(across - other) < _NAME_WIDTH and abs(down - above) < _NAME_HEIGHT for other, above in names):
            down += _NAME_HEIGHT
        names.append((across, down))
        body.append(text(across, down, point.mark, f"name{point.colour}"))
    return body


def _ticks(first: float, last: float) -> list[float]:
    """A few round numbers between the ends."""
    powers = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
    steps: list[float] = []
    for factors in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        numbers = (factor * 10.0**power for power in powers for factor in factors)
        steps = [number for number in numbers if first <= number <= last]
        if len(steps) > 1:
            break
    return steps[:: math.ceil(len(steps) / 3)] if len(steps) > 3 else steps


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
