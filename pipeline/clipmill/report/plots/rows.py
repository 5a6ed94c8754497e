"""Rows from top to bottom, one per item: bars of shares, and differences from a baseline over a line at zero."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from clipmill.report.plots.canvas import (
    WIDTH,
    box,
    circle,
    hover,
    leading,
    line,
    round_steps,
    shorten,
    svg,
    text,
    whisker,
)

_BAR_ROW, _BAR, _VALUE = 26, 14, 64
_DOT_ROW, _DOT_LEFT, _DOT_RIGHT = 24, 176, 12


@dataclass(frozen=True)
class Bar:
    """``value``, its interval and the limit are fractions; ``colour`` numbers a series; ``title`` shows on hover;
    ``leads`` are properties of the queries that a click leads to."""

    label: str
    value: float
    title: str
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    colour: int = 1
    leads: Mapping[str, str] = field(default_factory=dict)


def bars(label: str, items: Sequence[Bar], *, left: int = 92) -> Markup:
    """Horizontal bars from 0 to 1 with a whisker for the interval and a tick for a limit; the value stands at the right."""
    span, bottom = WIDTH - left - _VALUE, _BAR_ROW * len(items) + 4

    def x(value: float) -> float:
        return left + span * min(max(value, 0.0), 1.0)

    body = [line(x(step), 0, x(step), bottom, "grid") for step in (0, 0.25, 0.5, 0.75, 1)]
    for number, item in enumerate(items):
        middle = _BAR_ROW * number + _BAR_ROW / 2 + 2
        shapes = [
            box(0, middle - _BAR_ROW / 2, WIDTH, _BAR_ROW, "catch"),
            text(left - 8, middle + 4, shorten(item.label, left - 10), "label", "end"),
            box(left, middle - _BAR / 2, x(item.value) - left, _BAR, f"fill{item.colour}"),
            text(WIDTH, middle + 4, f"{item.value:.1%}", "value", "end"),
        ]
        if item.low is not None and item.high is not None:
            shapes += whisker(x(item.low), x(item.high), middle)
        if item.limit is not None:
            shapes.append(line(x(item.limit), middle - _BAR / 2 - 3, x(item.limit), middle + _BAR / 2 + 3, "limit"))
        body.append(leading(hover(shapes, item.title), item.leads))
    body += [text(x(step), bottom + 14, f"{step:.0%}", "tick", "middle") for step in (0, 0.5, 1)]
    return svg(bottom + 20, label, body)


@dataclass(frozen=True)
class Dot:
    """``value`` with its interval, in the axis's unit; ``kind`` is a class of the style sheet; ``title`` shows on hover."""

    label: str
    value: float
    low: float
    high: float
    title: str
    kind: str = "fill1"


def differences(label: str, items: Sequence[Dot], x_title: str) -> Markup:
    """A dot with its interval for each item, and an axis that has zero on it."""
    low, high = min(0.0, *(item.low for item in items)), max(0.0, *(item.high for item in items))
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin
    span, bottom = WIDTH - _DOT_LEFT - _DOT_RIGHT, _DOT_ROW * len(items) + 4

    def x(value: float) -> float:
        return _DOT_LEFT + span * (value - low) / (high - low)

    steps = round_steps(low, high)
    body = [line(x(step), 0, x(step), bottom, "grid") for step in steps]
    body.append(line(x(0), 0, x(0), bottom, "axis"))
    for number, item in enumerate(items):
        middle = _DOT_ROW * number + _DOT_ROW / 2 + 2
        shapes = [
            box(0, middle - _DOT_ROW / 2, WIDTH, _DOT_ROW, "catch"),
            text(_DOT_LEFT - 10, middle + 4, shorten(item.label, _DOT_LEFT - 12), "label", "end"),
            *whisker(x(item.low), x(item.high), middle),
            circle(x(item.value), middle, 4.5, item.kind),
        ]
        body.append(hover(shapes, item.title))
    for step in steps:
        body.append(text(x(step), bottom + 14, f"{step:+g}".replace("-", "−") if step else "0", "tick", "middle"))
    body.append(text(_DOT_LEFT + span / 2, bottom + 32, x_title, "tick", "middle"))
    return svg(bottom + 38, label, body)
