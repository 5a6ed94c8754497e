"""Recall counts hits as the field does, and false captions are told by pairs."""

import numpy as np
import torch

from clipmill.train.rows import Example
from clipmill.train.validate import is_better, ranks, told_apart, validate


def units(*rows: tuple[float, ...]) -> np.ndarray:
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> tuple[list[int], list[int]]:
    t2i = [sum(texts[t] @ image > texts[t] @ images[owner[t]] for image in images) for t in range(len(texts))]
    i2t = []
    for i, image in enumerate(images):
        best = max(image @ texts[t] for t in range(len(texts)) if owner[t] == i)
        i2t.append(sum(image @ texts[t] > best for t in range(len(texts)) if owner[t] != i))
    return t2i, i2t


def test_ranks_are_those_of_a_full_comparison_over_several_blocks() -> None:
    random = np.random.default_rng(0)
    images, texts = units(*random.normal(size=(300, 6))), units(*random.normal(size=(700, 6)))
    owner = np.concatenate([np.arange(300), random.integers(0, 300, 400)])
    t2i, i2t = ranks(images, texts, owner)
    expected = brute_force(images.astype(np.float64), texts.astype(np.float64), owner)
    assert (t2i.tolist(), i2t.tolist()) == expected


def test_false_captions_are_told_pair_by_pair() -> None:
    images = units((1, 0), (0, 1))
    texts = units((1, 0), (1, 1), (0, 1))
    negatives = units((2, 1), (1, 0))
    told, pairs = told_apart(images, texts, np.array([0, 0, 1]), negatives, np.array([0, 1]))
    assert (told, pairs) == (2, 3)  # (1,1) scores below its negative (2,1); the others above


def test_validation_of_a_model_that_knows_all() -> None:
    """Pixels and words name the same number, and the encoders turn either into the same direction."""
    directions = torch.eye(20)

    def encode_images(pixels: torch.Tensor) -> torch.Tensor:
        return directions[pixels[:, 0, 0, 0].long()]

    def encode_texts(texts: list[str]) -> torch.Tensor:
        return torch.stack([directions[int(text)] for text in texts])

    examples = [
        Example(torch.full((3, 2, 2), n, dtype=torch.uint8), (str(n),) * (1 + n % 3), (str((n + 1) % 20),))
        for n in range(20)
    ]
    found = validate(examples, encode_images, encode_texts, (1, 5))
    assert (found.images, found.captions) == (20, sum(1 + n % 3 for n in range(20)))
    assert found.t2i(1) == found.i2t(1) == found.negative_accuracy == 1.0
    assert found.as_dict()["t2i_r@5"] == 1.0


def test_validation_of_a_model_that_is_off_by_one() -> None:
    directions = torch.eye(4)
    examples = [Example(torch.full((3, 1, 1), n, dtype=torch.uint8), (str(n),), ()) for n in range(4)]
    found = validate(
        examples,
        lambda pixels: directions[pixels[:, 0, 0, 0].long()],
        lambda texts: torch.stack([directions[(int(text) + 1) % 4] for text in texts]),
        (1, 2),
    )
    assert found.t2i(1) == found.i2t(1) == 0.0
    assert found.negative_accuracy is None
    assert found.hits == [0.0] * 4


def test_better_is_what_chance_does_not_explain() -> None:
    before = [0.0, 1.0] * 50
    assert not is_better(before, before)
    assert not is_better([1.0, *before[1:]], before)
    assert is_better([1.0] * 30 + before[30:], before)
    assert not is_better(before, [1.0] * 30 + before[30:])
    assert not is_better([1.0], [0.0])


def test_a_label_is_right_where_it_is_the_most_probable_of_all_that_occur() -> None:
    """A class is the direction of the mean of its prompts."""
    angles = {"a cat": 0.0, "the cat": 0.6, "a big dog": 1.5, "the big dog": 1.1}
    pictures = [0.2, 0.7, 1.2, 0.9]
    labels = ["cat", "cat", "big_dog", "cat"]

    def direction(angle: float) -> torch.Tensor:
        return torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)

    templates = ("a {}", "the {}")
    examples = [
        Example(torch.full((3, 1, 1), n, dtype=torch.uint8), ("a cat",), (), label) for n, label in enumerate(labels)
    ]
    found = validate(
        examples,
        lambda pixels: torch.stack([direction(pictures[int(at)]) for at in pixels[:, 0, 0, 0]]),
        lambda texts: torch.stack([direction(angles[text]) for text in texts]),
        templates=templates,
    )
    middle = (np.mean([0.0, 0.6]) + np.mean([1.5, 1.1])) / 2
    expected = [(angle < middle) == (label == "cat") for angle, label in zip(pictures, labels, strict=True)]
    assert found.hits == [float(right) for right in expected]
    assert found.acc1 == sum(expected) / 4
    assert found.score == found.acc1
