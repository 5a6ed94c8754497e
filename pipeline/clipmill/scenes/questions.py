"""What is asked of a scene, with the one right answer.

Questions and answers are a function of the scene alone, as captions are. Five kinds: the colour of a shape, how many there are,
whether something is there, what lies on a side of an object, and which shape has a colour; and a caption is asked for in one
of the styles of `clipmill caption`.
"""

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from clipmill.scenes.captions import caption
from clipmill.scenes.scene import Scene, Thing
from clipmill.scenes.vocabulary import COLOURS, OPPOSITE, SHAPES
from clipmill.words.styles import STYLES, prompt_of

KINDS = ("colour", "count", "presence", "side", "shape")

PRACTISED = {"colour": 3, "count": 2, "presence": 2, "side": 2, "shape": 1, "caption": 1}
"""Of each kind, at most so many about a scene are learned from. To tell the colour of a shape a model has to find the shape
first, which takes it longest to learn: of questions that are drawn evenly, those of colours are right last."""

_NUMBERS = ("none", "one", "two", "three")
_SIDES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}


@dataclass(frozen=True)
class Asked:
    """A question with its answer; ``kind`` is one of KINDS, or ``caption``."""

    kind: str
    question: str
    answer: str


def questions(scene: Scene) -> list[Asked]:
    """All that is asked of a scene, kind by kind, each question once, and last a caption."""
    style = STYLES[zlib.crc32(f"described {scene.description}".encode()) % len(STYLES)]
    described = Asked("caption", prompt_of(style, instructed=True), caption(scene, 0))
    asked = [*_colours(scene), *_counts(scene), *_presences(scene), *_sides(scene), *_shapes(scene), described]
    return list({one.question: one for one in asked}.values())


def practised(scene: Scene) -> list[Asked]:
    """Those that a model is to learn from: of each kind as many as `PRACTISED` says, which the description decides."""

    def drawn(one: Asked) -> int:
        return zlib.crc32(f"{scene.description}/{one.question}".encode())

    asked = questions(scene)
    return [
        one
        for kind, most in PRACTISED.items()
        for one in sorted((one for one in asked if one.kind == kind), key=drawn)[:most]
    ]


def one_question(scene: Scene) -> Asked:
    """One of them: scenes are shared out evenly over the kinds that can be asked of them, by the description."""
    draw = zlib.crc32(f"asked of {scene.description}".encode()) >> 5
    asked = questions(scene)
    kinds = [kind for kind in KINDS if any(one.kind == kind for one in asked)]
    of_kind = [one for one in asked if one.kind == kinds[draw % len(kinds)]]
    return of_kind[draw // len(kinds) % len(of_kind)]


def _colours(scene: Scene) -> Iterator[Asked]:
    """Of shapes that are there once."""
    count = Counter(thing.shape for thing in scene.things)
    for thing in scene.things:
        if count[thing.shape] == 1:
            yield Asked("colour", f"what colour is the {thing.shape}?", thing.colour)


def _shapes(scene: Scene) -> Iterator[Asked]:
    """Of colours that are there once."""
    count = Counter(thing.colour for thing in scene.things)
    for thing in scene.things:
        if count[thing.colour] == 1:
            yield Asked("shape", f"which shape is {thing.colour}?", thing.shape)


def _counts(scene: Scene) -> Iterator[Asked]:
    yield Asked("count", "how many objects are there?", _NUMBERS[len(scene.things)])
    colours = Counter(thing.colour for thing in scene.things)
    for colour in (*colours, _absent(tuple(COLOURS), colours, scene)):
        yield Asked("count", f"how many {colour} objects are there?", _NUMBERS[colours[colour]])


def _presences(scene: Scene) -> Iterator[Asked]:
    """As often yes as no, and each no differs from an object of the scene by its colour or its shape alone."""
    for thing in scene.things:
        yield Asked("presence", f"is there a {thing.name}?".replace("a orange", "an orange"), "yes")
        name = _near_miss(thing, scene)
        yield Asked("presence", f"is there a {name}?".replace("a orange", "an orange"), "no")


def _near_miss(thing: Thing, scene: Scene) -> str:
    names = {one.name for one in scene.things}
    turn = zlib.crc32(f"{scene.description}/{thing.name}".encode())
    other_colours = [f"{colour} {thing.shape}" for colour in COLOURS]
    other_shapes = [f"{thing.colour} {shape}" for shape in SHAPES]
    absent = [name for name in (other_colours if turn % 2 else other_shapes) if name not in names]
    return absent[turn // 2 % len(absent)]


def _sides(scene: Scene) -> Iterator[Asked]:
    """Both ways: what is beside the main object, and on which side of another the main object lies."""
    for direction, thing in scene.others:
        yield Asked("side", f"what is {_SIDES[direction]} the {scene.main.name}?", thing.name)
        if len(scene.others) == 1:
            yield Asked("side", f"what is {_SIDES[OPPOSITE[direction]]} the {thing.name}?", scene.main.name)


def _absent(words: tuple[str, ...], there: Counter[str], scene: Scene) -> str:
    left = [word for word in words if word not in there]
    return left[zlib.crc32(scene.description.encode()) % len(left)]
