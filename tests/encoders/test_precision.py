"""Faster precisions make nearly the same vectors; which is chosen depends on the hardware and the model."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from open_clip import CLIP

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders import precision
from clipmill.encoders.model import ClipModel, load_model
from clipmill.encoders.precision import at_precision, choose_precision
from clipmill.source.decode import decode_image
from tests.encoders.test_parity import jpegs
from tests.encoders.test_shipping import untrained

CPU = torch.device("cpu")
TEXTS = ["a dog", "two red dogs run along a beach", "a street at night with many people under umbrellas", "7 !"]


@pytest.fixture(scope="module")
def small_vit() -> ClipModel:
    """The architecture of ViT-B-32 with four blocks a tower."""
    torch.manual_seed(0)
    model = untrained("ViT-B-32")
    network = model.network
    assert isinstance(network, CLIP)
    network.visual.transformer.resblocks = network.visual.transformer.resblocks[:4]
    network.transformer.resblocks = network.transformer.resblocks[:4]
    return model


def pixels_of(model: ClipModel, count: int) -> torch.Tensor:
    return torch.stack([model.preprocessing.prepare(decode_image(data, 10**9)) for data in jpegs(count)])


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a * b).sum(axis=1))


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_vectors_stay_within_the_bar(small_vit: ClipModel, kind: str) -> None:
    pixels = pixels_of(small_vit, 8)
    other = replace(small_vit, precision=kind)
    images = cosines(other.encode_images(pixels), small_vit.encode_images(pixels))
    texts = cosines(other.encode_texts(TEXTS), small_vit.encode_texts(TEXTS))
    assert images.min() >= 0.999
    assert images.min() < 1 - 1e-7, "it was computed otherwise"
    assert texts.min() >= 0.999


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_built_in_model_finds_the_same_neighbours(kind: str) -> None:
    model = load_model(ModelSettings(), device="cpu")
    pixels = pixels_of(model, 48)
    exact, other = model.encode_images(pixels), replace(model, precision=kind).encode_images(pixels)
    assert cosines(exact, other).min() >= 0.999
    best = [np.argsort(-(vectors @ exact.T), axis=1)[:, :10] for vectors in (exact, other)]
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(*best, strict=True)]
    assert np.mean(shared) >= 0.98


def test_a_causal_tower_gives_the_same_vectors_told_so_or_masked(small_vit: ClipModel) -> None:
    told = at_precision(small_vit.network, "bf16").float()
    masked = copy.deepcopy(told)
    attentions = [[layer for layer in network.modules() if hasattr(layer, "causal")] for network in (told, masked)]
    assert sum(layer.causal for layer in attentions[0]) == 4, "those of the text tower"
    for layer in attentions[1]:
        layer.causal = False
    tokens = small_vit.tokenizer(TEXTS)
    np.testing.assert_allclose(told.encode_text(tokens), masked.encode_text(tokens), atol=1e-5)


def test_int8_quantises_every_linear_layer_of_the_image_tower_and_none_of_the_text_tower(small_vit: ClipModel) -> None:
    made = at_precision(small_vit.network, "int8")
    quantised = [
        name for name, layer in made.named_modules() if isinstance(layer, torch.ao.nn.quantized.dynamic.Linear)
    ]
    assert len(quantised) == 4 * 4, "in and out of the attention and of the perceptron, in four blocks"
    assert all(name.startswith("visual.") for name in quantised)


def test_the_float32_weights_are_left_alone(small_vit: ClipModel) -> None:
    before = {name: tensor.clone() for name, tensor in small_vit.network.state_dict().items()}
    for kind in ("bf16", "int8"):
        replace(small_vit, precision=kind).encode_images(pixels_of(small_vit, 1))
    after = small_vit.network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert at_precision(small_vit.network, "fp32") is small_vit.network


def test_auto_takes_bf16_where_the_processor_has_it_and_the_model_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = torch.nn.Linear(5000, 5000), torch.nn.Linear(8, 8)
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    assert choose_precision(ModelSettings(), CPU, large) == "bf16"
    assert choose_precision(ModelSettings(), CPU, small) == "fp32"
    assert choose_precision(ModelSettings(precision="fp32"), CPU, large) == "fp32"
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    assert choose_precision(ModelSettings(), CPU, large) == "fp32"


@pytest.mark.parametrize(
    ("known", "found"), [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx512_vnni": True}, False)]
)
def test_bf16_is_found_by_the_flags_of_the_processor(
    known: dict[str, bool], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert precision.has_bf16(CPU) is found


def test_int8_on_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="int8 is for CPUs"):
        choose_precision(ModelSettings(precision="int8"), torch.device("cuda"), torch.nn.Linear(1, 1))
