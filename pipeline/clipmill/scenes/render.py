"""The picture of a scene: objects drawn enlarged, scaled down to smooth edges, over a patterned background."""

import io
import math
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw

from clipmill.scenes.scene import Scene, Thing, pick
from clipmill.scenes.vocabulary import (
    BACKGROUND_COLOURS,
    COLOURS,
    DIRECTIONS,
    OPPOSITE,
    PATTERNS,
    PLACES,
    SHAPES,
    SIZES,
    Point,
)

_SMOOTHING = 4
_TILT = math.radians(8)
_TINT = 14
_MARGIN = 0.03
_JPEG_QUALITY = 90


def render(scene: Scene, random: Random, side: int) -> Image.Image:
    """A square RGB picture of ``side`` pixels. Where the scene leaves freedom (exact place, tilt, tint), random decides."""
    image = _background(scene.background, side, random)
    radii = [_between(random, *SIZES[thing.size]) for thing in scene.things]
    for thing, radius, centre in zip(scene.things, radii, _centres(scene, radii, random), strict=True):
        _draw(image, thing, radius, centre, random)
    return image


def encode(image: Image.Image) -> bytes:
    """The picture as JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def _between(random: Random, low: float, high: float) -> float:
    return low + (high - low) * random.random()


def _centres(scene: Scene, radii: list[float], random: Random) -> list[Point]:
    """Centres as shares of the side: the main object away from the others, those near the edges they lie towards."""
    if not scene.others:
        x, y = PLACES[scene.place]
        return [(x + _between(random, -0.03, 0.03), y + _between(random, -0.03, 0.03))]
    x = y = 0.5
    directions = [direction for direction, _ in scene.others]
    for direction in directions:
        if OPPOSITE[direction] not in directions:
            reach = (0.5 - _MARGIN - radii[0]) * _between(random, 0.7, 1.0)
            x -= DIRECTIONS[direction][0] * reach
            y -= DIRECTIONS[direction][1] * reach
    free_x = "left" not in directions and "right" not in directions
    free_y = "above" not in directions and "below" not in directions
    x += _between(random, -0.14, 0.14) * free_x
    y += _between(random, -0.14, 0.14) * free_y
    centres = [(x, y)]
    for (direction, _), radius in zip(scene.others, radii[1:], strict=True):
        dx, dy = DIRECTIONS[direction]
        reach = 0.5 - _MARGIN - radius
        aside = _between(random, -0.08, 0.08)
        centres.append((0.5 + dx * reach, y + aside) if dx else (x + aside, 0.5 + dy * reach))
    return centres


def _tinted(random: Random, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (max(0, min(255, int(value + _between(random, -_TINT, _TINT)))) for value in colour)
    return red, green, blue


def _draw(image: Image.Image, thing: Thing, radius: float, centre: Point, random: Random) -> None:
    side = image.width
    tilt = _between(random, -_TILT, _TILT)
    scale, cos, sin = radius * side * _SMOOTHING, math.cos(tilt), math.sin(tilt)
    extent = math.ceil(radius * side * 1.2) + 1
    left, top = math.floor(centre[0] * side) - extent, math.floor(centre[1] * side) - extent
    x, y = (centre[0] * side - left) * _SMOOTHING, (centre[1] * side - top) * _SMOOTHING
    box = 2 * extent + 1
    mask = Image.new("L", (box * _SMOOTHING, box * _SMOOTHING))
    draw = ImageDraw.Draw(mask)
    for fill, outline in zip((255, 0), SHAPES[thing.shape], strict=False):
        points = [(x + scale * (px * cos - py * sin), y + scale * (px * sin + py * cos)) for px, py in outline]
        draw.polygon(points, fill=fill)
    image.paste(_tinted(random, COLOURS[thing.colour]), (left, top, left + box, top + box), mask.reduce(_SMOOTHING))


def _background(background: str, side: int, random: Random) -> Image.Image:
    pattern, colour = background.split()
    sheet = _sheet(pattern, BACKGROUND_COLOURS[colour], side, pick(random, range(3)))
    left, top = (int(random.random() * (sheet.width - side + 1)) for _ in range(2))
    return sheet.crop((left, top, left + side, top + side))


@lru_cache(maxsize=256)
def _sheet(pattern: str, colour: tuple[int, int, int], side: int, shade: int) -> Image.Image:
    """A background larger than the picture, of which each picture shows a different part."""
    period = side / 6
    light = tuple(max(0, min(255, value + 8 * (shade - 1))) for value in colour)
    change = -46 if sum(light) > 330 else 46
    dark = tuple(max(0, min(255, value + change)) for value in light)
    large = math.ceil(side * 1.4) * _SMOOTHING
    sheet = Image.new("RGB", (large, large), light)
    draw = ImageDraw.Draw(sheet)
    step = period * _SMOOTHING
    cells = range(math.ceil(large / step) + 1)
    if pattern == "striped":
        for cell in range(-len(cells), len(cells)):
            corner = cell * step * 1.2
            width = step * 0.6
            draw.polygon(
                [(corner, 0), (corner + width, 0), (corner + width + large, large), (corner + large, large)], dark
            )
    elif pattern == "dotted":
        for row in cells:
            for column in cells:
                x, y = (column + 0.5 * (row % 2)) * step, row * step
                draw.ellipse((x - step * 0.22, y - step * 0.22, x + step * 0.22, y + step * 0.22), dark)
    elif pattern == "checkered":
        for row in cells:
            for column in cells:
                if (row + column) % 2:
                    draw.rectangle((column * step, row * step, (column + 1) * step, (row + 1) * step), dark)
    assert pattern in PATTERNS
    return sheet.reduce(_SMOOTHING)
