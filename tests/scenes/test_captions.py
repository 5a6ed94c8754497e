"""Captions are true of their scene, negative captions are not, and equal captions mean equal content."""

import re
from dataclasses import replace

import pytest

from clipmill.scenes.captions import (
    WORDINGS,
    caption,
    captions,
    mirrored,
    naming_captions,
    negative_captions,
    placing_captions,
)
from clipmill.scenes.scene import Scene, Thing, scene_of_row
from clipmill.scenes.vocabulary import COLOURS, PLACES, SHAPES, SIZES

SCENES = [scene_of_row("held-out", 2, row)[0] for row in range(400)]
PAIRS = [scene for scene in SCENES if len(scene.others) == 1]
RED_LEFT_OF_BLUE = Scene(
    Thing("large", "red", "circle"), (("right", Thing("small", "blue", "star")),), "", "plain white"
)


def words_of(thing: Thing) -> set[str]:
    return {thing.colour, thing.shape}


def mentioned(text: str) -> list[tuple[str | None, str, str]]:
    """Size, colour and shape of the objects that a caption names, in the order of the text."""
    pattern = rf"(?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b"
    return [(size or None, colour, shape) for size, colour, shape in re.findall(pattern, text)]


def test_a_known_scene_is_described_as_a_person_would() -> None:
    assert captions(RED_LEFT_OF_BLUE) == [
        "a large red circle to the left of a small blue star, on a plain white background",
        "a small blue star to the right of a large red circle against a plain white background",
        "a photo of a red circle on the left and a blue star on the right, on plain white",
        "a picture of a large red circle with a small blue star to its right on a plain white background",
        "there is a small blue star right of a large red circle, on plain white",
    ]
    assert naming_captions(RED_LEFT_OF_BLUE) == ["a photo of a red circle", "a picture of a red circle", "a red circle"]


def test_where_things_lie_is_said_alone() -> None:
    assert placing_captions(RED_LEFT_OF_BLUE) == [
        "a smaller thing to the right of a larger one",
        "a larger thing with a smaller one to its right",
        "a blue star on the right",
        "a blue star to the right of a red circle",
        "a red circle on the left",
    ]
    alone = replace(RED_LEFT_OF_BLUE, others=(), place="in the top left corner")
    assert placing_captions(alone) == ["something in the top left corner"]


def test_what_is_said_of_places_is_false_of_the_mirrored_scene() -> None:
    for scene in PAIRS:
        assert not set(placing_captions(scene)) & set(placing_captions(mirrored(scene)))


def test_every_caption_names_all_objects_as_they_are_and_the_background() -> None:
    for scene in SCENES:
        things = {thing.name: thing for thing in scene.things}
        for text in captions(scene):
            named = mentioned(text)
            assert {f"{colour} {shape}" for _, colour, shape in named} == set(things)
            assert all(size in (None, things[f"{colour} {shape}"].size) for size, colour, shape in named)
            assert scene.background in text


def test_captions_speak_of_sides_as_the_scene_has_them() -> None:
    """Read back independently: where each wording puts the first object it names, seen from the second."""
    is_first = {
        " to the left of ": "left", " to the right of ": "right", " left of ": "left", " right of ": "right",
        " above ": "above", " below ": "below", " over ": "above", " under ": "below",
    }  # fmt: skip
    checked = 0
    for scene in PAIRS:
        ((direction, other),) = scene.others
        for text in captions(scene):
            between = re.search(r"(?:circle|square|triangle|star|heart|cross|ring|moon|diamond|arrow)( .+? )an? ", text)
            assert between
            if between.group(1) in is_first:
                first = mentioned(text)[0]
                first_is_other = f"{first[1]} {first[2]}" == other.name
                assert (is_first[between.group(1)] == direction) == first_is_other
                checked += 1
    assert checked == 3 * len(PAIRS)


def test_a_lone_object_is_put_where_it_is() -> None:
    alone = [scene for scene in SCENES if not scene.others]
    assert alone
    for scene in alone:
        for text in captions(scene):
            assert [place for place in PLACES if place in text] == [scene.place]


def test_every_scene_has_all_wordings_and_they_differ() -> None:
    assert all(len(set(captions(scene))) == WORDINGS for scene in SCENES)


def test_articles_fit_the_words() -> None:
    for scene in SCENES:
        for text in captions(scene) + negative_captions(scene):
            assert not re.search(r"\ban [^aeiou]", text)
            assert not re.search(r"\ba [aeiou]", text)


def test_negatives_are_never_true_of_the_scene() -> None:
    for scene in SCENES:
        negatives = negative_captions(scene)
        assert len(negatives) >= 4
        assert not set(negatives) & set(captions(scene))


def test_negatives_include_the_other_side() -> None:
    for scene in PAIRS:
        other_side = {caption(mirrored(scene), wording) for wording in range(WORDINGS)}
        assert other_side & set(negative_captions(scene))


def test_mirroring_swaps_sides_and_nothing_else() -> None:
    assert mirrored(RED_LEFT_OF_BLUE) == replace(RED_LEFT_OF_BLUE, others=(("left", Thing("small", "blue", "star")),))
    assert all(mirrored(mirrored(scene)) == scene for scene in SCENES if scene.others)


def test_captions_are_shared_exactly_by_scenes_that_agree_in_what_is_said() -> None:
    smaller = replace(RED_LEFT_OF_BLUE, main=replace(RED_LEFT_OF_BLUE.main, size="medium"))
    shared = set(captions(RED_LEFT_OF_BLUE)) & set(captions(smaller))
    assert shared == {"a photo of a red circle on the left and a blue star on the right, on plain white"}


@pytest.mark.parametrize("wording", range(WORDINGS))
def test_three_objects_are_told_by_every_wording(wording: int) -> None:
    scene = Scene(
        Thing("large", "cyan", "moon"),
        (("left", Thing("small", "red", "cross")), ("above", Thing("small", "orange", "ring"))),
        "",
        "striped gray",
    )
    swapped = replace(scene, others=(("left", scene.others[1][1]), ("above", scene.others[0][1])))
    assert caption(scene, wording) != caption(swapped, wording)


def test_negatives_include_another_shape_and_another_colour() -> None:
    """So that shapes and colours themselves are learned, not only which object has which."""
    for scene in SCENES:
        named = {(colour, shape) for text in negative_captions(scene) for _, colour, shape in mentioned(text)}
        assert any(colour == scene.main.colour and shape != scene.main.shape for colour, shape in named)
        assert any(colour != scene.main.colour and shape == scene.main.shape for colour, shape in named)
