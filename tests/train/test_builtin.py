"""The built-in model knows scenes it has never seen: which object has which colour, shape and size, and where they lie."""

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray

from clipmill.core.settings import ModelSettings
from clipmill.encoders.model import ClipModel, load_model
from clipmill.encoders.names import BUILTIN_FOLDER
from clipmill.scenes.captions import WORDINGS, caption, captions, exchanged, mirrored
from clipmill.scenes.render import encode, render
from clipmill.scenes.scene import Scene, scene_of_row
from clipmill.scenes.vocabulary import NAMES
from clipmill.source.decode import decode_image
from clipmill.train.validate import ranks

SEED = 77
ROWS = 400


@pytest.fixture(scope="module")
def model() -> ClipModel:
    return load_model(ModelSettings(), "cpu")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene_of_row("held-out", SEED, row)[0] for row in range(ROWS)]


@pytest.fixture(scope="module")
def images(model: ClipModel) -> NDArray[np.float32]:
    """Unit vectors of the scenes' pictures, (ROWS, d)."""
    pictures = (encode(render(*scene_of_row("held-out", SEED, row), 96)) for row in range(ROWS))
    prepared = [model.preprocessing.prepare(decode_image(data, 10**6)) for data in pictures]
    return model.encode_images(torch.stack(prepared))


def test_it_finds_the_scene_by_its_caption(model: ClipModel, scenes: list[Scene], images: NDArray[np.float32]) -> None:
    texts = [text for scene in scenes for text in captions(scene)]
    t2i, i2t = ranks(images, model.encode_texts(texts), np.repeat(np.arange(ROWS), WORDINGS))
    assert (t2i < 1).mean() > 0.85
    assert (t2i < 10).mean() > 0.99
    assert (i2t < 1).mean() > 0.85


def test_it_names_the_main_object(model: ClipModel, scenes: list[Scene], images: NDArray[np.float32]) -> None:
    prompts = model.encode_texts([f"a photo of a {name}" for name in NAMES])
    guessed = (images @ prompts.T).argmax(axis=1)
    right = guessed == np.array([NAMES.index(scene.main.name) for scene in scenes])
    assert right.mean() > 0.95


@pytest.mark.parametrize("field", ["colour", "shape", "size"])
def test_it_knows_which_object_has_which(
    model: ClipModel, scenes: list[Scene], images: NDArray[np.float32], field: str
) -> None:
    """Against captions that exchange one property between two objects."""
    first_wording = 0
    pairs = [
        (row, scene)
        for row, scene in enumerate(scenes)
        if len(scene.others) == 1
        and caption(exchanged(scene, 0, field), first_wording) != caption(scene, first_wording)
    ]
    true = model.encode_texts([caption(scene, first_wording) for _, scene in pairs])
    false = model.encode_texts([caption(exchanged(scene, 0, field), first_wording) for _, scene in pairs])
    pictures = images[[row for row, _ in pairs]]
    told = (true * pictures).sum(axis=1) > (false * pictures).sum(axis=1)
    assert told.mean() > 0.95


@pytest.mark.parametrize("sides", [("left", "right"), ("above", "below")])
def test_it_knows_which_side_things_lie_on(
    model: ClipModel, scenes: list[Scene], images: NDArray[np.float32], sides: tuple[str, str]
) -> None:
    """Against captions of the mirrored scene."""
    rows = [row for row, scene in enumerate(scenes) if len(scene.others) == 1 and scene.others[0][0] in sides]
    true = model.encode_texts([caption(scenes[row], 0) for row in rows])
    false = model.encode_texts([caption(mirrored(scenes[row]), 0) for row in rows])
    told = (true * images[rows]).sum(axis=1) > (false * images[rows]).sum(axis=1)
    assert told.mean() > 0.95


def test_open_clip_loads_it_with_nothing_of_ours() -> None:
    theirs = open_clip.create_model(f"local-dir:{BUILTIN_FOLDER}")
    assert sum(weight.numel() for weight in theirs.parameters()) < 3_000_000


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in BUILTIN_FOLDER.iterdir()) < 6_000_000
