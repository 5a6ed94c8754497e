"""Preprocessing must give what open_clip's own transform gives, for every family of models, without going through PIL."""

import numpy as np
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image

from clipmill.encoders.preprocess import Preprocessing

FAMILIES = {
    "clip": ("ViT-B-32", "laion2b_s34b_b79k", 224),
    "siglip": ("ViT-B-16-SigLIP", "webli", 224),
    "clipa": ("ViT-L-14-CLIPA", "datacomp1b", 224),
    "mobileclip": ("MobileCLIP-S1", "datacompdr", 256),
    "pe": ("PE-Core-T-16-384", "meta", 384),
    "dfn_squash": ("ViT-H-14-quickgelu", "dfn5b", 224),
}


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth structure with fine noise, so that both the filter and its antialiasing matter."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noise = rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse, np.int16) + noise, 0, 255).astype(np.uint8))


def values_of(family: str) -> dict:
    name, tag, size = FAMILIES[family]
    config = get_pretrained_cfg(name, tag)
    assert config, f"open_clip no longer has {name} {tag}"
    return {**merge_preprocess_dict(PreprocessCfg(), config), "size": (size, size)}


def theirs(values: dict, image: Image.Image) -> np.ndarray:
    return image_transform_v2(PreprocessCfg(**values), is_train=False)(image).numpy()


def ours(values: dict, image: Image.Image) -> np.ndarray:
    preprocessing = Preprocessing.from_open_clip(values)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return preprocessing.normalise(preprocessing.prepare(tensor)[None])[0].numpy()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (224, 224), (40, 30), (1000, 301)])
def test_prepared_pixels_are_those_of_open_clip(family: str, size: tuple[int, int]) -> None:
    values = values_of(family)
    image = picture(*size)
    expected, found = theirs(values, image), ours(values, image)
    assert found.shape == expected.shape
    level = 1 / (255 * np.asarray(values["std"], np.float32)[:, None, None])
    difference = np.abs(found - expected) / level
    assert difference.mean() < 0.6, "on average less than one of 256 levels apart"
    assert difference.max() <= 4


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("target", [(64, 64), (64, 96)])
def test_every_resize_mode_and_shape_is_that_of_open_clip(resize_mode: str, target: tuple[int, int]) -> None:
    values = {**values_of("clip"), "resize_mode": resize_mode, "size": target, "fill_color": 7}
    image = picture(200, 90, seed=3)
    expected, found = theirs(values, image), ours(values, image)
    assert found.shape == (3, *target)
    assert np.abs(found - expected).mean() * 255 * 0.27 < 0.6


@pytest.mark.parametrize("size", [(20_000, 20), (20, 20_000), (5_000, 1), (1, 1)])
def test_extreme_shapes_give_the_middle_of_the_picture(size: tuple[int, int]) -> None:
    preprocessing = Preprocessing.from_open_clip(values_of("clip"))
    tensor = torch.full((3, size[1], size[0]), 90, dtype=torch.uint8)
    prepared = preprocessing.prepare(tensor)
    assert prepared.shape == (3, 224, 224)
    assert (prepared == 90).all()


def test_middle_of_a_wide_picture_is_what_the_whole_resize_would_keep() -> None:
    preprocessing = Preprocessing.from_open_clip({**values_of("clip"), "size": (32, 32)})
    image = torch.from_numpy(np.array(picture(1200, 40, seed=5))).permute(2, 0, 1)
    whole = torch.nn.functional.interpolate(image[None].float(), (32, 960), mode="bicubic", antialias=True)
    expected = whole[0, :, :, 464:496].clamp(0, 255)
    assert (preprocessing.prepare(image).float() - expected).abs().mean() < 3


def test_identity_of_preprocessing_survives_json() -> None:
    import json

    described = Preprocessing.from_open_clip(values_of("siglip")).as_dict()
    assert json.loads(json.dumps(described)) == described
    assert described["resize_mode"] == "squash"
    assert described["mean"] == [0.5, 0.5, 0.5]
