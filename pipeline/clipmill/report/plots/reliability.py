"""Reliability: how often answers of a confidence are right, beside the line on which confidence is honest."""

from markupsafe import Markup

from clipmill.report.plots.canvas import Frame, line, mark
from clipmill.report.schema.classification import CalibrationPart


def reliability_plot(part: CalibrationPart) -> Markup:
    """Accuracy by confidence in bins with 95% intervals; a dot's area grows with the images in its bin."""
    frame = Frame(left=44, right=10, top=10, height=220)
    body = frame.percents()
    for step in (0, 0.25, 0.5, 0.75, 1):
        body += frame.tick(frame.x(step), f"{step:.0%}")
    body.append(line(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "limit"))
    most = max(bin.images for bin in part.bins)
    for bin in part.bins:
        if bin.confidence is None or bin.accuracy is None or bin.low is None or bin.high is None:
            continue
        title = (
            f"confidence {bin.above:.0%}–{bin.up_to:.0%}: {bin.images:,} images, mean confidence {bin.confidence:.1%}, "
            f"right {bin.accuracy:.1%} ({bin.low:.1%}–{bin.high:.1%})"
        )
        radius, ends = 2.5 + 4.5 * (bin.images / most) ** 0.5, (frame.y(bin.low), frame.y(bin.high))
        body.append(mark(frame.x(bin.confidence), frame.y(bin.accuracy), radius, "fill1", title, ends))
    return frame.finish("Reliability: share right by confidence", body, "confidence (share right stands upright)")
