"""What all plots share: an SVG of fixed width that scales with the page, escaped text, axes, and marks with intervals."""

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

WIDTH = 440
"""Units across. Text is sized for a plot shown about this many pixels wide."""


def svg(height: float, label: str, body: Iterable[Markup]) -> Markup:
    """A whole picture; ``label`` is what a screen reader says of it. One with links is a group of them."""
    drawn = Markup("").join(body)
    role = "group" if "<a " in drawn else "img"
    return Markup('<svg class="plot" viewBox="0 0 {} {:.0f}" role="{}" aria-label="{}">{}</svg>').format(
        WIDTH, height, role, label, drawn
    )


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> Markup:
    """A line of text; ``kind`` is a class of the style sheet."""
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(
        x, y, kind, anchor, content
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line in units from the upper left; ``kind`` is its class in the style sheet."""
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def circle(x: float, y: float, radius: float, kind: str) -> Markup:
    """A filled circle."""
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.2g}" class="{}"/>').format(x, y, radius, kind)


def box(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """A filled rectangle."""
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"/>').format(
        x, y, width, height, kind
    )


def path(points: Iterable[tuple[float, float]], kind: str, *, closed: bool = False) -> Markup:
    """A line through points."""
    drawn = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return Markup('<path d="M{}{}" class="{}"/>').format(drawn, "Z" if closed else "", kind)


def hover(content: Iterable[Markup], title: str) -> Markup:
    """Shapes that show ``title`` under the pointer."""
    return Markup("<g><title>{}</title>{}</g>").format(title, Markup("").join(content))


def leading(content: Markup, leads: Mapping[str, str]) -> Markup:
    """Shapes that lead to the queries with these properties; as they are where there are none."""
    if not leads:
        return content
    told = Markup("").join(Markup(' data-{}="{}"').format(name, value) for name, value in leads.items())
    return Markup('<a href="#queries"{}>{}</a>').format(told, content)


def mark(x: float, y: float, radius: float, kind: str, title: str, ends: tuple[float, float] | None = None) -> Markup:
    """A dot with a whisker between two heights, and a larger area that catches the pointer and shows ``title``."""
    shapes = [circle(x, y, max(9.0, 2.5 * radius), "catch"), circle(x, y, radius, kind)]
    if ends is not None:
        shapes.insert(1, line(x, ends[0], x, ends[1], "whisker"))
    return hover(shapes, title)


def whisker(low: float, high: float, y: float) -> list[Markup]:
    """An interval that lies flat, with a cap at each end."""
    return [line(low, y, high, y, "whisker"), *(line(end, y - 4, end, y + 4, "whisker") for end in (low, high))]


def stacked(labels: Iterable[tuple[float, float, str, str]], gap: float, lowest: float = 0.0) -> list[Markup]:
    """Labels (height, x, text, kind) from the top down, each moved down as far as it would touch the one above."""
    body = []
    for height, x, content, kind in sorted(labels):
        lowest = max(height, lowest + gap)
        body.append(text(x, lowest, content, kind))
    return body


@dataclass(frozen=True)
class Frame:
    """The area between the axes of a plot: its margins to the ``left`` and ``right``, its ``top`` and its ``height``."""

    left: float
    right: float
    top: float
    height: float

    @property
    def span(self) -> float:
        """Its width."""
        return WIDTH - self.left - self.right

    @property
    def bottom(self) -> float:
        """Where the axis lies."""
        return self.top + self.height

    def x(self, share: float) -> float:
        """A share of the width, from the left."""
        return self.left + self.span * share

    def y(self, share: float) -> float:
        """A share of the height, from the axis up; what lies outside is drawn at the edge."""
        return self.bottom - self.height * min(max(share, 0.0), 1.0)

    def percents(self) -> list[Markup]:
        """The axis, and lines across at every quarter with their per cent."""
        body = [line(self.left, self.bottom, WIDTH - self.right, self.bottom, "axis")]
        for step in (0, 0.25, 0.5, 0.75, 1):
            body.append(line(self.left, self.y(step), WIDTH - self.right, self.y(step), "grid"))
            body.append(text(self.left - 8, self.y(step) + 4, f"{step:.0%}", "tick", "end"))
        return body

    def tick(self, x: float, label: str) -> list[Markup]:
        """A tick of the axis and what it says."""
        return [line(x, self.bottom, x, self.bottom + 4, "axis"), text(x, self.bottom + 17, label, "tick", "middle")]

    def finish(self, label: str, body: Iterable[Markup], x_title: str) -> Markup:
        """The whole picture, with a title below the axis."""
        title = text(self.left + self.span / 2, self.bottom + 35, x_title, "tick", "middle")
        return svg(self.bottom + 42, label, [*body, title])


def shorten(content: str, width: float) -> str:
    """Text that takes no more than ``width`` units as a label, in the widest of the fonts that pages are shown in."""
    widths = list(accumulate(_width(letter) for letter in content))
    if not widths or widths[-1] <= width:
        return content
    kept = sum(one <= width - _width("…") for one in widths)
    return content[:kept].rstrip() + "…"


def _width(letter: str) -> float:
    """Of a letter of 12.5 pixels in DejaVu Sans, or a little more."""
    if unicodedata.east_asian_width(letter) in "WF" or letter in "mwMW@%…—":
        return 12.6
    if letter in "<>=+~#&" or letter.isupper():
        return 10.5
    return 5.2 if letter in "ijlI.,:;'|!()[]/ ftr" else 8.0


def round_steps(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) between ``low`` and ``high``, about ``wanted`` of them."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda size: abs(span / size - wanted))
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]
