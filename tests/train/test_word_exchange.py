"""Exchanged captions are as like the true one as can be, and say something else."""

import pytest

from clipmill.scenes.captions import captions, mirrored
from clipmill.scenes.scene import scene_of_row
from clipmill.train.word_exchange import exchanged


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("a red circle left of a blue square", "a red circle right of a blue square"),
        ("a red circle left of a blue square", "a blue circle left of a red square"),
        ("a red circle left of a blue square", "a blue square left of a red circle"),
        ("a man bites a dog", "a dog bites a man"),
        ("A dog chases an orange cat.", "An orange cat chases a dog."),
        ("the boat is under the bridge", "the boat is over the bridge"),
        ("two dogs in front of a house", "two dogs in back of a house"),
    ],
)
def test_what_is_made(caption: str, found: str) -> None:
    assert found in exchanged(caption)


def test_what_would_say_the_same_is_not_made() -> None:
    assert exchanged("a man and a woman") == []
    assert exchanged("a red ball and a red box") == []
    assert exchanged("a dog on a dog") == []
    assert exchanged("sunset") == []
    assert exchanged("") == []


def test_properties_are_exchanged_even_where_things_are_joined() -> None:
    assert exchanged("a red ball and a blue box") == ["a blue ball and a red box"]


def test_no_caption_is_its_own_exchange_and_none_is_made_twice() -> None:
    for row in range(60):
        for caption in captions(scene_of_row("train", 1, row)[0]):
            made = exchanged(caption)
            assert caption not in made
            assert len(set(made)) == len(made)


def test_sides_of_a_scene_are_exchanged_as_if_it_were_mirrored() -> None:
    """All words for sides at once, so that a caption does not contradict itself."""
    met = 0
    for row in range(60):
        scene = scene_of_row("train", 2, row)[0]
        if len(scene.others) == 1:
            met += 1
            assert exchanged(captions(scene)[0])[0] in captions(mirrored(scene))
    assert met > 10
