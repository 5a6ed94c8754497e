"""Prompts are encoded once a model, and never taken for those of another."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from captioned import identity
from clipmill.evaluation.classification import prompt_cache
from clipmill.evaluation.classification.prompt_cache import PromptCache
from clipmill.evaluation.classification.zero_shot import Encode, template_vectors

CLASSES, TEMPLATES = ("cat", "dog"), ("a {}", "one {}", "no {}")
MODEL = identity(8)


class Encoders:
    """Hands out encoders that give random vectors, and counts them."""

    def __init__(self) -> None:
        self.loaded = 0

    def __call__(self) -> Encode:
        self.loaded += 1
        return encode


def encode(texts: list[str]) -> NDArray[np.float32]:
    seeds = [sum(text.encode()) for text in texts]
    return np.array([np.random.default_rng(seed).normal(size=8) for seed in seeds], np.float32)


def test_the_second_time_no_model_is_loaded_and_the_vectors_are_the_same(tmp_path: Path) -> None:
    encoders, expected = Encoders(), template_vectors(encode, CLASSES, TEMPLATES)
    for _ in range(2):
        found = PromptCache(tmp_path / "prompts").vectors(MODEL, CLASSES, TEMPLATES, encoders)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32
    assert encoders.loaded == 1


@pytest.mark.parametrize(
    ("model", "classes", "templates"),
    [
        ({"weights_sha256": "another"}, CLASSES, TEMPLATES),
        ({"tokenizer_sha256": "another"}, CLASSES, TEMPLATES),
        ({}, ("dog", "cat"), TEMPLATES),
        ({}, CLASSES, TEMPLATES[::-1]),
        ({}, ("cat dog",), TEMPLATES),
    ],
)
def test_another_model_or_other_prompts_are_encoded_anew(
    tmp_path: Path, model: dict[str, str], classes: tuple[str, ...], templates: tuple[str, ...]
) -> None:
    encoders, cache = Encoders(), PromptCache(tmp_path)
    cache.vectors(MODEL, CLASSES, TEMPLATES, encoders)
    found = cache.vectors(MODEL.model_copy(update=model), classes, templates, encoders)
    np.testing.assert_array_equal(found, template_vectors(encode, classes, templates))
    assert encoders.loaded == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str) -> None:
    encoders, cache = Encoders(), PromptCache(tmp_path)
    expected = cache.vectors(MODEL, CLASSES, TEMPLATES, encoders)
    file = next(tmp_path.glob("*.npz"))
    data = bytearray(file.read_bytes())
    at = data.index(expected.tobytes()[:16])
    data[at + 3] ^= 64
    file.write_bytes({"flip": bytes(data), "cut": bytes(data[:-30]), "empty": b""}[damage])
    np.testing.assert_array_equal(cache.vectors(MODEL, CLASSES, TEMPLATES, encoders), expected)
    assert encoders.loaded == 2


def test_a_folder_that_cannot_be_made_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = PromptCache(tmp_path / "file" / "prompts").vectors(MODEL, CLASSES, TEMPLATES, Encoders())
    np.testing.assert_array_equal(found, template_vectors(encode, CLASSES, TEMPLATES))


def test_sets_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "KEPT_SETS", 2)
    encoders, cache = Encoders(), PromptCache(tmp_path)
    for name in ("a", "b", "a", "c", "a"):
        cache.vectors(MODEL, (name,), TEMPLATES, encoders)
    assert encoders.loaded == 3
    assert len(list(tmp_path.glob("*.npz"))) == 2
    cache.vectors(MODEL, ("b",), TEMPLATES, encoders)
    assert encoders.loaded == 4
