"""Lines over a logarithmic axis, for shares that grow with a count."""

import math
from collections.abc import Mapping

from markupsafe import Markup

from clipmill.report.plots.canvas import WIDTH, hover, line, path, svg, text

_LEFT, _RIGHT, _TOP, _HEIGHT = 44, 58, 10, 190
_LABEL_GAP = 14


def lines(label: str, series: Mapping[str, Mapping[int, float]], x_title: str, point: str = "R@{:,}") -> Markup:
    """One line a name, from counts (≥ 1) to shares from 0 to 1; the name stands at the line's end.

    ``point`` says of a count what its share is.
    """
    last = max([2, *(count for points in series.values() for count in points)])
    span, bottom = WIDTH - _LEFT - _RIGHT, _TOP + _HEIGHT

    def x(count: float) -> float:
        return _LEFT + span * math.log(count) / math.log(last)

    def y(share: float) -> float:
        return bottom - _HEIGHT * share

    body = []
    for step in (0, 0.25, 0.5, 0.75, 1):
        body += [line(_LEFT, y(step), WIDTH - _RIGHT, y(step), "grid")]
        body += [text(_LEFT - 8, y(step) + 4, f"{step:.0%}", "tick", "end")]
    for count in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if last <= 1000 else (10**power for power in range(16)):
        if count <= last:
            body += [line(x(count), bottom, x(count), bottom + 4, "axis")]
            body += [text(x(count), bottom + 17, f"{count:,}", "tick", "middle")]
    body.append(line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "axis"))
    body.append(text(_LEFT + span / 2, bottom + 35, x_title, "tick", "middle"))
    for number, (name, points) in enumerate(series.items(), start=1):
        drawn = [(x(count), y(share)) for count, share in sorted(points.items())]
        body.append(path(drawn, f"stroke{number}"))
        for count, share in points.items():
            dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" class="fill{}"/>').format(x(count), y(share), number)
            wide = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="9" class="catch"/>').format(x(count), y(share))
            body.append(hover([wide, dot], f"{name} {point.format(count)} = {share:.2%}"))
    lowest_label = 0.0
    labels = sorted(enumerate(series.items(), start=1), key=lambda item: -sum(item[1][1].values()))
    for number, (name, points) in labels:
        end = max(points)
        lowest_label = max(y(points[end]) + 4, lowest_label + _LABEL_GAP)
        body.append(text(x(end) + 8, lowest_label, name, f"name{number}"))
    return svg(bottom + 42, label, body)
