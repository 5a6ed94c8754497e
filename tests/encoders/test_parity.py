"""Vectors must be those of open_clip's own transform and encoding of the same bytes."""

import io
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform_v2
from PIL import Image

from clipmill.core.settings import ModelSettings
from clipmill.encoders.adapters.open_clip import OpenClip
from clipmill.encoders.model import ClipModel, build_network, identify, load_model, preprocessing_of
from clipmill.encoders.source import ModelSource, find_model
from clipmill.encoders.text import ignores_padding
from clipmill.source.decode import decode_image

PHOTOGRAPHS = Path(__file__).parents[2] / "../shared/data/coco_mini/val2017"
FAMILIES = ["ViT-B-32", "ViT-B-16-SigLIP", "PE-Core-T-16-384", "MobileCLIP-S1"]
"""One architecture a family of preprocessing: shortest/bicubic, squash/bicubic, squash/bilinear, shortest/bilinear."""


def jpegs(count: int) -> list[bytes]:
    """Real photographs where they are at hand, else rendered structure with noise, as JPEG bytes."""
    files = sorted(PHOTOGRAPHS.glob("*.jpg"))[:count]
    if files:
        return [file.read_bytes() for file in files]
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(coarse, np.int16) + rng.integers(-9, 10, (375, 500, 3))
        buffer = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def ours(model: ClipModel, files: list[bytes]) -> np.ndarray:
    prepared = torch.stack([model.preprocessing.prepare(decode_image(data, 10**9)) for data in files])
    return model.encode_images(prepared)


def theirs(model: ClipModel, source: ModelSource, files: list[bytes]) -> np.ndarray:
    values = {**source.preprocess, "size": tuple(model.preprocessing.size)}
    transform = image_transform_v2(open_clip.transform.PreprocessCfg(**values), is_train=False)
    pictures = torch.stack([transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in files])
    with torch.no_grad():
        return model.network.encode_image(pictures, normalize=True).numpy()


@pytest.mark.parametrize("name", FAMILIES)
def test_image_vectors_of_every_family_are_those_of_open_clip(name: str) -> None:
    torch.manual_seed(1)
    source = find_model(ModelSettings(model=name), trained=False)
    network = build_network(source).eval().requires_grad_(False)
    preprocessing = preprocessing_of(network, source)
    identity = identify(network, source, preprocessing)
    model = ClipModel(network, OpenClip(source, preprocessing), identity, torch.device("cpu"), "fp32", 8)
    files = jpegs(4)
    cosines = (ours(model, files) * theirs(model, source, files)).sum(axis=1)
    assert cosines.min() >= 0.9999


def test_built_in_model_is_a_probe_that_notices_and_agrees() -> None:
    model = load_model(ModelSettings(), device="cpu")
    files = jpegs(32)
    mine = ours(model, files)
    assert (mine * theirs(model, find_model(ModelSettings()), files)).sum(axis=1).min() >= 0.9999
    others = mine @ mine.T - np.eye(len(mine))
    assert others.max() < 0.9999, "the probe tells different pictures apart"


def test_text_vectors_are_those_of_open_clip() -> None:
    torch.manual_seed(1)
    name = "ViT-S-32-alt"
    source = find_model(ModelSettings(model=name), trained=False)
    network = build_network(source).eval().requires_grad_(False)
    preprocessing = preprocessing_of(network, source)
    identity = identify(network, source, preprocessing)
    model = ClipModel(network, OpenClip(source, preprocessing), identity, torch.device("cpu"), "fp32", 2)
    texts = ["a cat", "two dogs on a bed, in the sun", "", "word " * 200, "Ünïcödé ☂", "a cat", "0 !"]
    with torch.no_grad():
        expected = network.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True).numpy()
    np.testing.assert_allclose(model.encode_texts(texts), expected, atol=1e-5)


def test_vectors_are_unit_length_whatever_the_model_does_by_default() -> None:
    model = load_model(ModelSettings(), device="cpu")
    vectors = ours(model, jpegs(3))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not model.network.training


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "MobileCLIP-S1"])
def test_towers_that_see_padding_are_given_all_of_it(name: str) -> None:
    network = build_network(find_model(ModelSettings(model=name), trained=False))
    assert not ignores_padding(network)
