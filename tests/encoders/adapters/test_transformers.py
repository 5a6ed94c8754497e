"""A model of transformers is used as its library's own few lines use it."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipmill.core.settings import ModelSettings
from clipmill.encoders.adapters.transformers import POOLING
from clipmill.encoders.model import load_model
from clipmill.encoders.shipping import ship, unship
from clipmill.source.decode import decode_image
from pictures import noisy
from tiny_models import KINDS, LENGTH, TEXTS, TinyModel, tiny_model


@pytest.fixture(scope="module", params=KINDS)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return tiny_model(request.param, tmp_path_factory.mktemp(request.param))


PICTURES = [noisy(width, height) for width, height in ((90, 60), (40, 120), (64, 64), (9, 7), (700, 20))]
"""Lying, upright, square, tiny, and of extreme proportions."""


def unit(output: Any, *, first: bool) -> np.ndarray:
    features = output.pooler_output[:, 0] if first else output.pooler_output
    return torch.nn.functional.normalize(features, dim=-1).numpy()


def test_image_vectors_are_those_of_the_library(tiny: TinyModel) -> None:
    model = load_model(ModelSettings(model=str(tiny.folder)), device="cpu")
    mine = model.encode_images(
        torch.stack([model.preprocessing.prepare(decode_image(data, 10**9)) for data in PICTURES])
    )
    theirs = []
    for data in PICTURES:
        inputs = tiny.processor(images=Image.open(io.BytesIO(data)), return_tensors="pt")
        with torch.no_grad():
            theirs.append(unit(tiny.network.get_image_features(**inputs), first=tiny.kind == "flava"))
    assert (mine * np.concatenate(theirs)).sum(axis=1).min() >= 0.9999
    assert np.linalg.norm(mine[0] - mine[2]) > 1e-4, "different pictures have different vectors"


def test_text_vectors_are_those_of_the_library(tiny: TinyModel) -> None:
    model = load_model(ModelSettings(model=str(tiny.folder), batch_size=2), device="cpu")
    padding = "max_length" if tiny.kind.startswith("siglip") else True
    inputs = tiny.tokenizer(TEXTS, padding=padding, truncation=True, max_length=LENGTH, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        theirs = unit(tiny.network.get_text_features(**inputs), first=tiny.kind == "flava")
    assert (model.encode_texts(TEXTS) * theirs).sum(axis=1).min() >= 0.9999
    assert (model.encode_queries(TEXTS) * theirs).sum(axis=1).min() >= 0.9999


def test_every_class_of_the_list_is_tried_here() -> None:
    assert {kind.replace("vision_text_dual_encoder", "vision-text-dual-encoder") for kind in KINDS} == set(POOLING)


def test_a_model_that_travelled_is_the_same_also_in_bfloat16(tiny: TinyModel) -> None:
    model = load_model(ModelSettings(model=str(tiny.folder)), device="cpu")
    pixels = torch.stack([model.preprocessing.prepare(decode_image(data, 10**9)) for data in PICTURES[:3]])
    arrived = unship(ship(model), ModelSettings(precision="fp32"))
    np.testing.assert_array_equal(arrived.encode_images(pixels), model.encode_images(pixels))
    np.testing.assert_array_equal(arrived.encode_texts(TEXTS), model.encode_texts(TEXTS))
    halved = unship(ship(model), ModelSettings(precision="bf16"))
    assert (halved.encode_images(pixels) * model.encode_images(pixels)).sum(axis=1).min() > 0.99
    assert (halved.encode_texts(TEXTS) * model.encode_texts(TEXTS)).sum(axis=1).min() > 0.99
