"""Vectors that are cut are the first components of whole ones, and are taken for nothing else."""

from pathlib import Path

import numpy as np
import pytest

import clipmill
from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ModelSettings, SampleSettings
from clipmill.encoders.light import light_texts
from clipmill.encoders.model import load_model, load_model_of
from clipmill.encoders.shipping import ship, unship
from clipmill.scenes.dataset import write_scenes

TEXTS = ["a red circle", "two green stars above a blue square"]


def cut(vectors: np.ndarray, width: int) -> np.ndarray:
    short = vectors[:, :width]
    return short / np.linalg.norm(short, axis=1, keepdims=True)


def test_they_are_the_first_components_scaled() -> None:
    whole, short = load_model(ModelSettings(), device="cpu"), load_model(ModelSettings(dimension=48), device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (3, *whole.preprocessing.shape), np.uint8)
    np.testing.assert_allclose(short.encode_texts(TEXTS), cut(whole.encode_texts(TEXTS), 48), atol=1e-6)
    np.testing.assert_allclose(short.encode_images(pixels), cut(whole.encode_images(pixels), 48), atol=1e-6)


def test_the_width_is_part_of_the_identity() -> None:
    whole, short = load_model(ModelSettings(), device="cpu"), load_model(ModelSettings(dimension=48), device="cpu")
    assert whole.identity.differences(short.identity) == ["dimension: 192 and 48"]
    assert load_model(ModelSettings(dimension=192), device="cpu").identity == whole.identity


def test_it_travels_and_is_found_again_by_its_identity() -> None:
    short = load_model(ModelSettings(dimension=48), device="cpu")
    expected = short.encode_texts(TEXTS)
    arrived = unship(ship(short), ModelSettings(precision="fp32", dimension=48))
    np.testing.assert_array_equal(arrived.encode_texts(TEXTS), expected)
    np.testing.assert_array_equal(load_model_of(short.identity, None, None, "it").encode_texts(TEXTS), expected)
    light = light_texts(short.identity)
    assert light is not None
    np.testing.assert_allclose(light.encode_texts(TEXTS), expected, atol=1e-4)


def test_more_components_than_there_are_are_refused() -> None:
    with pytest.raises(UserError, match="--dimension 193: the vectors of builtin have 192 components"):
        load_model(ModelSettings(dimension=193))


def test_embed_index_and_search_work_with_cut_vectors(tmp_path: Path) -> None:
    write_scenes(SampleSettings(output=str(tmp_path / "scenes"), rows=40, image_size=48), Silent())
    whole = clipmill.embed(tmp_path / "scenes", tmp_path / "whole")
    short = clipmill.embed(tmp_path / "scenes", tmp_path / "short", dimension=48)
    assert (whole.dimension, short.dimension) == (192, 48)
    with pytest.raises(UserError, match="dimension: 192 and 48"):
        clipmill.embed(tmp_path / "scenes", tmp_path / "whole", dimension=48)
    clipmill.build_index(tmp_path / "short", tmp_path / "index")
    found = clipmill.open_index(tmp_path / "index").search("a red circle", k=5)
    assert len(found.table) == 5
