"""Histograms over one axis, laid over each other, each as a share of its own total."""

from collections.abc import Sequence

from markupsafe import Markup

from clipmill.report.document import HistogramData
from clipmill.report.plots.canvas import WIDTH, hover, line, path, round_steps, svg, text

_LEFT, _RIGHT, _TOP, _HEIGHT = 6, 6, 40, 150
_LABEL_ROW = 15


def histogram(label: str, series: Sequence[HistogramData], x_title: str) -> Markup:
    """Up to two histograms; a dashed line marks each mean."""
    shown = [data for data in series if data.n]
    low = min(data.edges[0] for data in shown)
    high = max(data.edges[-1] for data in shown)
    peak = max(max(data.counts) / data.n for data in shown)
    span, bottom = WIDTH - _LEFT - _RIGHT, _TOP + _HEIGHT

    def x(value: float) -> float:
        return _LEFT + span * (value - low) / (high - low)

    body = []
    for number, data in enumerate(shown, start=1):
        outline = [(x(data.edges[0]), float(bottom))]
        for index, count in enumerate(data.counts):
            top = bottom - _HEIGHT * count / data.n / peak
            outline += [(x(data.edges[index]), top), (x(data.edges[index + 1]), top)]
        outline.append((x(data.edges[-1]), float(bottom)))
        body.append(
            hover([path(outline, f"area{number}", closed=True)], f"{data.name}: {data.n:,}, mean {data.mean:.3f}")
        )
        middle = min(max(x(data.mean), _LEFT), WIDTH - _RIGHT)
        height = _TOP - 8 - _LABEL_ROW * (len(shown) - number)
        body.append(line(middle, height + 4, middle, bottom, f"mean{number}"))
        anchor = "end" if middle > WIDTH * 0.75 else "start" if middle < WIDTH * 0.25 else "middle"
        body.append(text(middle, height, f"{data.name} {data.mean:.3f}", f"name{number}", anchor))
    body.append(line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "axis"))
    for step in round_steps(low, high):
        body.append(line(x(step), bottom, x(step), bottom + 4, "axis"))
        body.append(text(x(step), bottom + 17, f"{step:g}", "tick", "middle"))
    body.append(text(_LEFT + span / 2, bottom + 34, x_title, "tick", "middle"))
    return svg(bottom + 40, label, body)
