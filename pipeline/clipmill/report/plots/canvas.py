"""What all plots share: an SVG of fixed width that scales with the page, escaped text, and round axis steps."""

import math
from collections.abc import Iterable

from markupsafe import Markup, escape

WIDTH = 440
"""Units across. Text is sized for a plot shown about this many pixels wide."""


def svg(height: float, label: str, body: Iterable[Markup]) -> Markup:
    """A whole picture; ``label`` is what a screen reader says of it."""
    return Markup('<svg class="plot" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("").join(body)
    )


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> Markup:
    """A line of text; ``kind`` is a class of the style sheet."""
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(
        x, y, kind, anchor, content
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line in SVG, in pixels from the upper left; ``kind`` is its class in the stylesheet."""
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def hover(content: Iterable[Markup], title: str) -> Markup:
    """Shapes that show ``title`` under the pointer."""
    return Markup("<g><title>{}</title>{}</g>").format(title, Markup("").join(content))


def path(points: Iterable[tuple[float, float]], kind: str, *, closed: bool = False) -> Markup:
    """A line through points."""
    drawn = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return Markup('<path d="M{}{}" class="{}"/>').format(drawn, "Z" if closed else "", kind)


def shorten(content: str, length: int) -> str:
    """Text of at most ``length`` characters."""
    return content if len(content) <= length else content[: length - 1] + "…"


def round_steps(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) between ``low`` and ``high``, about ``wanted`` of them."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda size: abs(span / size - wanted))
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


__all__ = ["WIDTH", "escape", "hover", "line", "path", "round_steps", "shorten", "svg", "text"]
