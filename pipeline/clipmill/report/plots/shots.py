"""Accuracy by training images a class, with what none and what all of them give as level lines."""

import math

from markupsafe import Markup

from clipmill.report.document import ProbePart
from clipmill.report.format import value_text
from clipmill.report.plots.canvas import WIDTH, hover, line, path, svg, text

_LEFT, _RIGHT, _TOP, _HEIGHT = 44, 16, 22, 200
_LABEL_GAP = 15


def shots_plot(part: ProbePart) -> Markup:
    """Few-shot accuracy with its intervals; zero-shot and the probe of all training images for reference."""
    last = max(2, part.shots[-1].shots)
    span, bottom = WIDTH - _LEFT - _RIGHT, _TOP + _HEIGHT

    def x(shots: int) -> float:
        return _LEFT + 14 + (span - 28) * math.log(shots) / math.log(last)

    def y(share: float) -> float:
        return bottom - _HEIGHT * share

    body = []
    for step in (0, 0.25, 0.5, 0.75, 1):
        body += [line(_LEFT, y(step), WIDTH - _RIGHT, y(step), "grid")]
        body += [text(_LEFT - 8, y(step) + 4, f"{step:.0%}", "tick", "end")]
    body.append(line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "axis"))
    body.append(text(_LEFT + span / 2, bottom + 35, "training images a class", "tick", "middle"))
    levels = [(part.figures[0], "all training images", "name1", "mean1")]
    if part.zero_shot:
        levels.append((part.zero_shot, "zero-shot", "name2", "mean2"))
    above = 0.0
    for figure, name, label, kind in sorted(levels, key=lambda level: -level[0].value):
        height = y(figure.value)
        above = max(height - 6, above + _LABEL_GAP)
        said = f"{name}: {value_text(figure)}"
        catch = Markup('<rect x="{}" y="{:.1f}" width="{}" height="10" class="catch"/>').format(_LEFT, height - 5, span)
        body.append(hover([catch, line(_LEFT, height, WIDTH - _RIGHT, height, kind)], said))
        body.append(text(_LEFT + 4, above, said, label))
    body.append(path([(x(one.shots), y(one.figure.value)) for one in part.shots], "stroke1"))
    for one in part.shots:
        across, figure = x(one.shots), one.figure
        body += [line(across, bottom, across, bottom + 4, "axis")]
        body += [text(across, bottom + 17, f"{one.shots:,}", "tick", "middle")]
        shapes = [
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5" class="fill1"/>').format(across, y(figure.value)),
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="11" class="catch"/>').format(across, y(figure.value)),
        ]
        said = f"{figure.title}: {value_text(figure)}"
        if figure.low is not None and figure.high is not None:
            shapes.insert(0, line(across, y(figure.low), across, y(figure.high), "whisker"))
            said += f" ({figure.low:.2%}–{figure.high:.2%})"
        body.append(hover(shapes, said))
    return svg(bottom + 42, "Accuracy by training images a class", body)
