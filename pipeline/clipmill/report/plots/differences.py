"""Differences from a baseline, each a dot with its interval over a line at zero."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clipmill.report.plots.canvas import WIDTH, hover, line, round_steps, shorten, svg, text

_ROW = 24
_LEFT, _RIGHT = 150, 12


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
    """One dot an item, from top to bottom, and an axis that has zero on it."""
    low, high = min(0.0, *(item.low for item in items)), max(0.0, *(item.high for item in items))
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin
    span, bottom = WIDTH - _LEFT - _RIGHT, _ROW * len(items) + 4

    def x(value: float) -> float:
        return _LEFT + span * (value - low) / (high - low)

    body = [line(x(step), 0, x(step), bottom, "grid") for step in round_steps(low, high)]
    body.append(line(x(0), 0, x(0), bottom, "axis"))
    for number, item in enumerate(items):
        middle = _ROW * number + _ROW / 2 + 2
        body.append(
            hover(
                [
                    Markup('<rect x="0" y="{:.1f}" width="{}" height="{}" class="catch"/>').format(
                        middle - _ROW / 2, WIDTH, _ROW
                    ),
                    text(_LEFT - 10, middle + 4, shorten(item.label, 24), "label", "end"),
                    line(x(item.low), middle, x(item.high), middle, "whisker"),
                    *(line(x(end), middle - 4, x(end), middle + 4, "whisker") for end in (item.low, item.high)),
                    Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" class="{}"/>').format(
                        x(item.value), middle, item.kind
                    ),
                ],
                item.title,
            )
        )
    body += [
        text(x(step), bottom + 14, f"{step:+g}".replace("-", "−") if step else "0", "tick", "middle")
        for step in round_steps(low, high)
    ]
    body.append(text(_LEFT + span / 2, bottom + 32, x_title, "tick", "middle"))
    return svg(bottom + 38, label, body)
