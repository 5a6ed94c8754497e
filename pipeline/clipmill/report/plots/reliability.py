"""Reliability: how often answers of a confidence are right, beside the line on which confidence is honest."""

from markupsafe import Markup

from clipmill.report.document import CalibrationPart
from clipmill.report.plots.canvas import WIDTH, hover, line, svg, text

_LEFT, _RIGHT, _TOP, _HEIGHT = 44, 10, 10, 220


def reliability_plot(part: CalibrationPart) -> Markup:
    """Accuracy by confidence in bins with 95% intervals; a dot's area grows with the images in its bin."""
    span, bottom = WIDTH - _LEFT - _RIGHT, _TOP + _HEIGHT

    def x(share: float) -> float:
        return _LEFT + span * share

    def y(share: float) -> float:
        return bottom - _HEIGHT * share

    body = []
    for step in (0, 0.25, 0.5, 0.75, 1):
        body += [line(_LEFT, y(step), WIDTH - _RIGHT, y(step), "grid")]
        body += [text(_LEFT - 8, y(step) + 4, f"{step:.0%}", "tick", "end")]
        body += [line(x(step), bottom, x(step), bottom + 4, "axis")]
        body += [text(x(step), bottom + 17, f"{step:.0%}", "tick", "middle")]
    body.append(line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "axis"))
    body.append(line(x(0), y(0), x(1), y(1), "limit"))
    body.append(text(_LEFT + span / 2, bottom + 35, "confidence (share right stands upright)", "tick", "middle"))
    most = max(bin.images for bin in part.bins)
    for bin in part.bins:
        if bin.confidence is None or bin.accuracy is None or bin.low is None or bin.high is None:
            continue
        across, up = x(bin.confidence), y(bin.accuracy)
        radius = 2.5 + 4.5 * (bin.images / most) ** 0.5
        shapes = [
            line(across, y(bin.low), across, y(bin.high), "whisker"),
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" class="fill1"/>').format(across, up, radius),
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="10" class="catch"/>').format(across, up),
        ]
        said = (
            f"confidence {bin.above:.0%}–{bin.up_to:.0%}: {bin.images:,} images, mean confidence {bin.confidence:.1%}, "
            f"right {bin.accuracy:.1%} ({bin.low:.1%}–{bin.high:.1%})"
        )
        body.append(hover(shapes, said))
    return svg(bottom + 42, "Reliability: share right by confidence", body)
