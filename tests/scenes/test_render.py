"""Pictures show what the scene says: the colours at the places, the sizes, nothing cut off."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from clipmill.scenes.render import encode, render
from clipmill.scenes.scene import Scene, Thing, scene_of_row
from clipmill.scenes.vocabulary import COLOURS, OPPOSITE, SHAPES

SIDE = 96


def pixels_of(scene: Scene, row: int = 0, side: int = SIDE) -> np.ndarray:
    _, random = scene_of_row("train", 0, row)
    return np.asarray(render(scene, random, side)).astype(int)


def coloured(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Rows and columns of the pixels near a colour, (n, 2)."""
    return np.argwhere(np.abs(pixels - np.array(COLOURS[colour])).max(axis=2) < 30)


def pair(direction: str, main: str = "large", other: str = "small") -> Scene:
    return Scene(Thing(main, "red", "square"), ((direction, Thing(other, "blue", "circle")),), "", "plain white")


@pytest.mark.parametrize("direction", list(OPPOSITE))
@pytest.mark.parametrize("row", range(5))
def test_the_other_object_lies_where_the_scene_says(direction: str, row: int) -> None:
    pixels = pixels_of(pair(direction), row)
    red, blue = coloured(pixels, "red").mean(axis=0), coloured(pixels, "blue").mean(axis=0)
    down, right = blue - red
    along, aside = (right, down) if direction in ("left", "right") else (down, right)
    assert (along > 0) == (direction in ("right", "below"))
    assert abs(along) > 2 * abs(aside)


@pytest.mark.parametrize("row", range(5))
def test_larger_things_cover_more(row: int) -> None:
    alone = Scene(Thing("small", "green", "circle"), (), "in the middle", "dotted gray")
    areas = [
        len(coloured(pixels_of(replace(alone, main=replace(alone.main, size=size)), row), "green"))
        for size in ("small", "medium", "large")
    ]
    assert areas[0] * 1.5 < areas[1]
    assert areas[1] * 1.5 < areas[2]


@pytest.mark.parametrize("shape", list(SHAPES))
def test_no_shape_is_cut_off_by_the_edge_or_hidden(shape: str) -> None:
    for row in range(4):
        for direction in OPPOSITE:
            scene = pair(direction, "large", "medium")
            scene = replace(scene, main=replace(scene.main, shape=shape))
            pixels = pixels_of(scene, row)
            edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert (edge.min(axis=1) > 200).all()
            visible, alone = (
                coloured(pixels, "blue"),
                coloured(pixels_of(pair(direction, "large", "medium"), row), "blue"),
            )
            assert len(visible) > 0.9 * len(alone)


def test_shapes_differ_in_their_outline() -> None:
    masks = {}
    for shape in SHAPES:
        scene = Scene(Thing("large", "red", shape), (), "in the middle", "plain white")
        masks[shape] = np.abs(pixels_of(scene) - np.array(COLOURS["red"])).max(axis=2) < 30
    for first in SHAPES:
        for second in SHAPES:
            if first < second:
                differing = (masks[first] ^ masks[second]).sum() / (masks[first] | masks[second]).sum()
                assert differing > 0.15, (first, second)


def test_edges_are_smooth() -> None:
    scene = Scene(Thing("large", "red", "circle"), (), "in the middle", "plain white")
    assert len(np.unique(pixels_of(scene).reshape(-1, 3), axis=0)) > 10


def test_the_picture_is_the_same_every_time_and_a_jpeg_of_its_size() -> None:
    def picture() -> bytes:
        scene, random = scene_of_row("train", 9, 4)
        return encode(render(scene, random, 80))

    assert picture() == picture()
    image = Image.open(io.BytesIO(picture()))
    assert (image.format, image.size, image.mode) == ("JPEG", (80, 80), "RGB")
