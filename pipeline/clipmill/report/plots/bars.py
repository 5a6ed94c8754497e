"""Horizontal bars from 0 to 1, with a whisker for the interval and a tick for a limit."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clipmill.report.plots.canvas import WIDTH, hover, line, shorten, svg, text

_ROW = 26
_BAR = 14
_LEFT = 92
_RIGHT = 64


@dataclass(frozen=True)
class Bar:
    """``value``, its interval and the limit are fractions; ``colour`` numbers a series; ``title`` shows on hover."""

    label: str
    value: float
    title: str
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    colour: int = 1


def bars(label: str, items: Sequence[Bar], *, left: int = _LEFT) -> Markup:
    """One bar an item, from top to bottom; the value stands at the right in per cent."""
    span = WIDTH - left - _RIGHT

    def x(value: float) -> float:
        return left + span * min(max(value, 0.0), 1.0)

    bottom = _ROW * len(items) + 4
    body = [line(x(step), 0, x(step), bottom, "grid") for step in (0, 0.25, 0.5, 0.75, 1)]
    for number, item in enumerate(items):
        middle = _ROW * number + _ROW / 2 + 2
        shapes = [
            Markup('<rect x="0" y="{:.1f}" width="{}" height="{}" class="catch"/>').format(
                middle - _ROW / 2, WIDTH, _ROW
            ),
            text(left - 8, middle + 4, shorten(item.label, left // 7), "label", "end"),
            Markup('<rect x="{}" y="{:.1f}" width="{:.1f}" height="{}" class="fill{}"/>').format(
                left, middle - _BAR / 2, x(item.value) - left, _BAR, item.colour
            ),
        ]
        if item.low is not None and item.high is not None:
            shapes.append(line(x(item.low), middle, x(item.high), middle, "whisker"))
            shapes += [line(x(end), middle - 4, x(end), middle + 4, "whisker") for end in (item.low, item.high)]
        if item.limit is not None:
            shapes.append(line(x(item.limit), middle - _BAR / 2 - 3, x(item.limit), middle + _BAR / 2 + 3, "limit"))
        shapes.append(text(WIDTH, middle + 4, f"{item.value:.1%}", "value", "end"))
        body.append(hover(shapes, item.title))
    body += [text(x(step), bottom + 14, f"{step:.0%}", "tick", "middle") for step in (0, 0.5, 1)]
    return svg(bottom + 20, label, body)
