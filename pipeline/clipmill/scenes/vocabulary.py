"""What scenes are made of: the objects' colours, shapes and sizes, the backgrounds, and the words for all of them."""

import math

Point = tuple[float, float]
Outline = tuple[Point, ...]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 32, 38),
    "orange": (245, 130, 20),
    "yellow": (240, 210, 25),
    "green": (36, 150, 56),
    "blue": (32, 78, 206),
    "purple": (124, 44, 160),
    "pink": (246, 120, 176),
    "cyan": (32, 190, 210),
}

SIZES: dict[str, tuple[float, float]] = {
    "small": (0.095, 0.105),
    "medium": (0.135, 0.15),
    "large": (0.19, 0.215),
}
"""Radii as a share of the picture's side, smallest size first."""

BACKGROUND_COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (242, 242, 240),
    "gray": (150, 152, 155),
    "black": (30, 30, 34),
    "brown": (128, 92, 62),
}

PATTERNS = ("plain", "striped", "dotted", "checkered")

PLACES: dict[str, Point] = {
    "in the top left corner": (0.25, 0.25),
    "at the top": (0.5, 0.25),
    "in the top right corner": (0.75, 0.25),
    "on the left": (0.25, 0.5),
    "in the middle": (0.5, 0.5),
    "on the right": (0.75, 0.5),
    "in the bottom left corner": (0.25, 0.75),
    "at the bottom": (0.5, 0.75),
    "in the bottom right corner": (0.75, 0.75),
}
"""Where a lone object can be: the centre of the place, as shares of the picture's width and height."""

DIRECTIONS: dict[str, Point] = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "above": (0.0, -1.0), "below": (0.0, 1.0)}
"""Unit vectors, y growing downwards as in pictures."""

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def _arc(radius: float, start: float, end: float, steps: int, centre: Point = (0.0, 0.0)) -> Outline:
    angles = [start + (end - start) * step / steps for step in range(steps + 1)]
    return tuple((centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)) for angle in angles)


def _star() -> Outline:
    radii = [1.1 if corner % 2 == 0 else 0.45 for corner in range(10)]
    angles = [math.pi * corner / 5 - math.pi / 2 for corner in range(10)]
    return tuple(
        (radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in zip(radii, angles, strict=True)
    )


def _heart() -> Outline:
    angles = [2 * math.pi * step / 40 for step in range(40)]
    return tuple(
        (
            math.sin(angle) ** 3,
            -(13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)) / 16
            - 0.1,
        )
        for angle in angles
    )


def _moon() -> Outline:
    """The part of a disc that a second disc, shifted to the right, leaves uncovered."""
    shift, inner = 0.5, 0.8
    x = (1 + shift**2 - inner**2) / (2 * shift)
    outer_angle = math.acos(x)
    inner_angle = math.acos((x - shift) / inner)
    outside = _arc(1.0, outer_angle, 2 * math.pi - outer_angle, 36)
    inside = _arc(inner, 2 * math.pi - inner_angle, inner_angle, 24, (shift, 0.0))
    return tuple((px + 0.2, py) for px, py in outside + inside)


_BAR = 0.34
_CROSS: Outline = (
    (-_BAR, -1.0), (_BAR, -1.0), (_BAR, -_BAR), (1.0, -_BAR), (1.0, _BAR), (_BAR, _BAR),
    (_BAR, 1.0), (-_BAR, 1.0), (-_BAR, _BAR), (-1.0, _BAR), (-1.0, -_BAR), (-_BAR, -_BAR),
)  # fmt: skip
_ARROW: Outline = ((0.0, -1.0), (0.85, 0.0), (0.32, 0.0), (0.32, 1.0), (-0.32, 1.0), (-0.32, 0.0), (-0.85, 0.0))

SHAPES: dict[str, tuple[Outline, ...]] = {
    "circle": (_arc(0.95, 0.0, 2 * math.pi, 40),),
    "square": (((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)),),
    "triangle": (((0.0, -1.0), (1.0, 0.78), (-1.0, 0.78)),),
    "star": (_star(),),
    "heart": (_heart(),),
    "cross": (_CROSS,),
    "ring": (_arc(0.98, 0.0, 2 * math.pi, 40), _arc(0.55, 0.0, 2 * math.pi, 32)),
    "moon": (_moon(),),
    "diamond": (((0.0, -1.1), (0.72, 0.0), (0.0, 1.1), (-0.72, 0.0)),),
    "arrow": (_ARROW,),
}
"""Outlines about the unit disc, upright; a second outline is a hole."""

NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""The objects there are, which are the labels of zero-shot classification."""
