"""A text that is a caption of another image of the batch is known to be true of it, whichever worker has it."""

import itertools

import numpy as np
import pytest

from clipmill.train.truth import Part, Truth

CAPTIONS = [("a", "b"), ("c",), ("a",), ("d", "c"), ("e",)]
TEXTS = ["b", "c", "a", "d", "e"]
NEGATIVES = ["a", "z", "e"]


@pytest.mark.parametrize("cuts", [(5,), (2, 3), (1, 1, 3)])
def test_every_text_is_compared_with_the_captions_of_every_image(cuts: tuple[int, ...]) -> None:
    starts = np.cumsum([0, *cuts])
    parts = [
        Part.of(TEXTS[low:high], NEGATIVES if low == 0 else [], CAPTIONS[low:high])
        for low, high in itertools.pairwise(starts)
    ]
    of_images, of_texts = Truth(parts).rows(slice(1, 4))
    columns = TEXTS + NEGATIVES
    assert of_images.tolist() == [[text in captions for text in columns] for captions in CAPTIONS[1:4]]
    assert of_texts.tolist() == [[text in captions for captions in CAPTIONS] for text in TEXTS[1:4]]
