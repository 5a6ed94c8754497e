"""Curves of shares over an axis: logarithmic for counts, even for strengths."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clipmill.report.plots.canvas import Frame, box, hover, line, mark, path, stacked

_GAP = 17


@dataclass(frozen=True)
class Mark:
    """A share at a place along the axis, with its interval; ``title`` shows on hover."""

    at: float
    value: float
    title: str
    low: float | None = None
    high: float | None = None


def counts(label: str, series: Mapping[str, Sequence[Mark]], x_title: str) -> Markup:
    """A curve for each name over counts from 1 on; the name stands at the curve's end."""
    last = max([2.0, *(point.at for marks in series.values() for point in marks)])
    powers = [10**power for power in range(16)]
    ticks = [
        count for count in ((1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if last <= 1000 else powers) if count <= last
    ]
    frame = Frame(left=44, right=58, top=10, height=190)
    places = {at: math.log(at) / math.log(last) for marks in series.values() for at in (point.at for point in marks)}
    body = frame.percents()
    for count in ticks:
        body += frame.tick(frame.x(math.log(count) / math.log(last)), f"{count:,}")
    return frame.finish(label, body + _curves(frame, series, places), x_title)


def strengths(label: str, series: Mapping[str, Sequence[Mark]], last: int) -> Markup:
    """A curve for each name over whole strengths from 0, which is none, to ``last``."""
    frame = Frame(left=44, right=64, top=10, height=130)
    places = {float(strength): 0.02 + 0.96 * strength / last for strength in range(last + 1)}
    body = frame.percents()
    for strength, place in places.items():
        body += frame.tick(frame.x(place), f"{strength:.0f}" if strength else "none")
    return frame.finish(label, body + _curves(frame, series, places), "strength")


def shots(label: str, marks: Sequence[Mark], levels: Sequence[tuple[str, float]], x_title: str) -> Markup:
    """One curve over counts from 1 on, and up to two ``levels`` that it compares with, as lines across."""
    last = max(2.0, marks[-1].at)
    frame = Frame(left=44, right=16, top=22, height=200)
    places = {point.at: 0.03 + 0.94 * math.log(point.at) / math.log(last) for point in marks}
    body = frame.percents()
    for at, place in places.items():
        body += frame.tick(frame.x(place), f"{at:,.0f}")
    names = []
    for number, (name, value) in enumerate(levels, start=1):
        height = frame.y(value)
        across = line(frame.left, height, frame.x(1), height, f"mean{number}")
        body.append(hover([box(frame.left, height - 5, frame.span, 10, "catch"), across], name))
        names.append((height - 6, frame.left + 4, name, f"name{number}"))
    return frame.finish(label, [*body, *_curves(frame, {"": marks}, places), *stacked(names, _GAP)], x_title)


def _curves(frame: Frame, series: Mapping[str, Sequence[Mark]], places: Mapping[float, float]) -> list[Markup]:
    """Every curve with its marks, and its name at its end; ``places`` are the shares of the width."""
    body, names = [], []
    for number, (name, marks) in enumerate(series.items(), start=1):
        ordered = sorted(marks, key=lambda point: point.at)
        points = [(frame.x(places[point.at]), frame.y(point.value)) for point in ordered]
        body.append(path(points, f"stroke{number}"))
        for point, (x, y) in zip(ordered, points, strict=True):
            ends = None if point.low is None or point.high is None else (frame.y(point.low), frame.y(point.high))
            body.append(mark(x, y, 3, f"fill{number}", point.title, ends))
        names.append((points[-1][1] + 4, points[-1][0] + 9, name, f"name{number}"))
    return body + stacked(names, _GAP)
