"""Histograms over one axis, laid over each other, each as a share of its own total."""

from collections.abc import Sequence

from markupsafe import Markup

from clipmill.evaluation.results import HistogramData
from clipmill.report.plots.canvas import WIDTH, Frame, hover, line, path, round_steps, text

_LABEL_ROW = 15


def histogram(label: str, series: Sequence[HistogramData], x_title: str) -> Markup:
    """Up to two histograms; a dashed line marks each mean."""
    shown = [data for data in series if data.n]
    low, high = min(data.edges[0] for data in shown), max(data.edges[-1] for data in shown)
    peak = max(max(data.counts) / data.n for data in shown)
    frame = Frame(left=6, right=6, top=40, height=150)

    def x(value: float) -> float:
        return frame.x((value - low) / (high - low))

    body = []
    for number, data in enumerate(shown, start=1):
        outline = [(x(data.edges[0]), frame.bottom)]
        for index, count in enumerate(data.counts):
            top = frame.y(count / data.n / peak)
            outline += [(x(data.edges[index]), top), (x(data.edges[index + 1]), top)]
        outline.append((x(data.edges[-1]), frame.bottom))
        title = f"{data.name}: {data.n:,}, mean {data.mean:.3f}"
        body.append(hover([path(outline, f"area{number}", closed=True)], title))
        middle = min(max(x(data.mean), frame.left), WIDTH - frame.right)
        height = frame.top - 8 - _LABEL_ROW * (len(shown) - number)
        body.append(line(middle, height + 4, middle, frame.bottom, f"mean{number}"))
        anchor = "end" if middle > WIDTH * 0.75 else "start" if middle < WIDTH * 0.25 else "middle"
        body.append(text(middle, height, f"{data.name} {data.mean:.3f}", f"name{number}", anchor))
    body.append(line(frame.left, frame.bottom, WIDTH - frame.right, frame.bottom, "axis"))
    for step in round_steps(low, high):
        body += frame.tick(x(step), f"{step:g}")
    return frame.finish(label, body, x_title)
