"""A model that was taken apart and put together elsewhere is the same model, on the very memory it was given."""

import pickle

import numpy as np
import pytest
import torch

from clipmill.core.settings import ModelSettings
from clipmill.encoders.adapters.open_clip import OpenClip
from clipmill.encoders.model import ClipModel, build_network, identify, load_model, preprocessing_of, weights_sha256
from clipmill.encoders.shipping import Shipment, ship, unship
from clipmill.encoders.source import find_model


def untrained(name: str) -> ClipModel:
    source = find_model(ModelSettings(model=name), trained=False)
    network = build_network(source).eval().requires_grad_(False)
    preprocessing = preprocessing_of(network, source)
    identity = identify(network, source, preprocessing)
    return ClipModel(network, OpenClip(source, preprocessing), identity, torch.device("cpu"), "fp32", 8)


def travelled(shipment: Shipment) -> Shipment:
    """As another process gets it: pickled, its arrays not to be written."""
    arrived: Shipment = pickle.loads(pickle.dumps(shipment))
    for array in arrived.arrays.values():
        array.flags.writeable = False
    return arrived


@pytest.mark.parametrize("name", ["builtin", "ViT-B-32", "PE-Core-T-16-384", "MobileCLIP-S1", "RN50"])
def test_vectors_are_the_same_bit_for_bit(name: str) -> None:
    model = load_model(ModelSettings()) if name == "builtin" else untrained(name)
    arrived = unship(travelled(ship(model)), ModelSettings(precision="fp32"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, *model.preprocessing.size), np.uint8)
    texts = ["a cat", "two red dogs on a beach"]
    assert np.array_equal(model.encode_images(pixels), arrived.encode_images(pixels))
    assert np.array_equal(model.encode_texts(texts), arrived.encode_texts(texts))
    assert weights_sha256(arrived.network) == model.identity.weights_sha256
    assert arrived.identity == model.identity


def test_weights_are_not_copied_on_a_cpu() -> None:
    shipment = travelled(ship(load_model(ModelSettings())))
    arrived = unship(shipment, ModelSettings())
    for name, tensor in arrived.network.state_dict().items():
        assert np.shares_memory(tensor.numpy(), shipment.arrays[name]), name


def test_the_model_that_was_shipped_is_left_as_it_was() -> None:
    model = load_model(ModelSettings())
    ship(model)
    assert weights_sha256(model.network) == model.identity.weights_sha256


def test_settings_of_the_receiver_hold() -> None:
    assert unship(ship(load_model(ModelSettings())), ModelSettings(batch_size=7)).batch_size == 7
