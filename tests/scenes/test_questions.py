"""Questions of scenes have one right answer, which is read off the scene."""

from collections import Counter

import pytest

from clipmill.scenes.captions import captions
from clipmill.scenes.questions import KINDS, PRACTISED, Asked, one_question, practised, questions
from clipmill.scenes.scene import Scene, Thing, scene_of_row
from clipmill.scenes.vocabulary import COLOURS, SHAPES

STAR, HEART, RED_HEART = (
    Thing("large", "red", "star"),
    Thing("small", "orange", "heart"),
    Thing("small", "red", "heart"),
)
SCENES = [scene_of_row("held-out", 3, row)[0] for row in range(1500)]
NUMBERS = ("none", "one", "two", "three")


def pairs(scene: Scene) -> dict[str, str]:
    return {one.question: one.answer for one in questions(scene)}


def test_a_scene_of_two_is_asked_for_all_that_it_shows() -> None:
    found = pairs(Scene(STAR, (("left", HEART),), "", "plain white"))
    assert found["what colour is the star?"] == "red"
    assert found["which shape is orange?"] == "heart"
    assert found["how many objects are there?"] == "two"
    assert found["how many red objects are there?"] == "one"
    assert found["is there an orange heart?"] == "yes"
    assert found["what is to the left of the red star?"] == "orange heart"
    assert found["what is to the right of the orange heart?"] == "red star"


def test_what_has_two_right_answers_is_not_asked() -> None:
    found = pairs(Scene(STAR, (("left", HEART), ("above", RED_HEART)), "", "plain white"))
    assert "what colour is the heart?" not in found
    assert "which shape is red?" not in found
    assert found["how many red objects are there?"] == "two"
    assert found["what is above the red star?"] == "red heart"


def answer(scene: Scene, asked: Asked) -> str:
    """Read off the scene by the words of the question alone."""
    words = asked.question.rstrip("?").split()
    names = [thing.name for thing in scene.things]
    if asked.kind == "colour":
        (thing,) = [thing for thing in scene.things if thing.shape == words[-1]]
        return thing.colour
    if asked.kind == "shape":
        (thing,) = [thing for thing in scene.things if thing.colour == words[-1]]
        return thing.shape
    if asked.kind == "count":
        return NUMBERS[sum(words[2] in ("objects", thing.colour) for thing in scene.things)]
    if asked.kind == "caption":
        return captions(scene)[0]
    name = " ".join(words[-2:])
    if asked.kind == "presence":
        return "yes" if name in names else "no"
    side = next(word for word in words if word in ("left", "right", "above", "below"))
    if name == scene.main.name:
        return next(thing.name for direction, thing in scene.others if direction == side)
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[side]
    assert [(direction, thing.name) for direction, thing in scene.others] == [(opposite, name)]
    return scene.main.name


def test_every_answer_is_the_one_that_the_scene_gives() -> None:
    for scene in SCENES:
        for asked in questions(scene):
            assert asked.answer == answer(scene, asked), (scene.description, asked)


def test_all_kinds_are_asked_about_as_often() -> None:
    asked = [one_question(scene) for scene in SCENES]
    counts = Counter(one.kind for one in asked)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 0.7 * len(SCENES) / len(KINDS)
    presence = Counter(one.answer for one in asked if one.kind == "presence")
    assert presence["yes"] == pytest.approx(presence["no"], rel=0.25)


def test_what_is_said_not_to_be_there_shares_colour_or_shape_with_what_is() -> None:
    for scene in SCENES[:300]:
        for asked in questions(scene):
            if (asked.kind, asked.answer) == ("presence", "no"):
                colour, shape = asked.question.rstrip("?").split()[-2:]
                assert colour in COLOURS
                assert shape in SHAPES
                assert any(thing.colour == colour or thing.shape == shape for thing in scene.things)


def test_what_is_learned_from_is_all_about_colours_and_some_of_each_other_kind() -> None:
    for scene in SCENES[:300]:
        asked, learned = questions(scene), practised(scene)
        assert len(set(learned)) == len(learned)
        assert set(learned) <= set(asked)
        there, kept = (Counter(one.kind for one in some) for some in (asked, learned))
        assert kept == {kind: min(count, PRACTISED[kind]) for kind, count in there.items()}
        assert kept["colour"] == there["colour"]
    shares = Counter(one.answer for scene in SCENES for one in practised(scene) if one.kind == "presence")
    assert 0.45 < shares["yes"] / shares.total() < 0.55
