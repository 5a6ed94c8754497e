"""What is said of a scene: captions that are true of it, and near-miss captions that are not.

Captions are a function of the scene's parts alone, and every scene of a kind gets all wordings. So two scenes share a
caption exactly when that caption is true of both, and counting equal captions gives the ceiling of retrieval.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from clipmill.scenes.scene import Scene
from clipmill.scenes.vocabulary import BACKGROUND_COLOURS, COLOURS, OPPOSITE, PATTERNS, PLACES, SHAPES, SIZES

WORDINGS = 5

_RELATION = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
_SHORT_RELATION = {"left": "left of", "right": "right of", "above": "over", "below": "under"}
_OF_IT = {"left": "to its left", "right": "to its right", "above": "above it", "below": "below it"}
_SIDE = {"left": "on the left", "right": "on the right", "above": "at the top", "below": "at the bottom"}


def captions(scene: Scene) -> list[str]:
    """All wordings for a scene, ``WORDINGS`` of them, each enough to tell it from nearly all others."""
    return [caption(scene, wording) for wording in range(WORDINGS)]


def naming_captions(scene: Scene) -> list[str]:
    """The bare name of the main object: too little to find the scene by, but it teaches what the object is called."""
    name = _a(scene.main.name)
    return [f"a photo of {name}", f"a picture of {name}", name]


def placing_captions(scene: Scene) -> list[str]:
    """Only where things lie, of sizes alone and of names alone: too little to find the scene by, but it teaches what the words
    for sides mean."""
    if not scene.others:
        return [f"something {scene.place}"]
    placed = [
        text
        for direction, thing in scene.others
        for text in (
            f"a smaller thing {_RELATION[direction]} a larger one",
            f"a larger thing with a smaller one {_OF_IT[direction]}",
            f"{_a(thing.name)} {_SIDE[direction]}",
            f"{_a(thing.name)} {_RELATION[direction]} {_a(scene.main.name)}",
        )
    ]
    if len(scene.others) == 1:
        placed.append(f"{_a(scene.main.name)} {_SIDE[OPPOSITE[scene.others[0][0]]]}")
    return placed


def some_of(texts: Sequence[str], most: int, scene: Scene) -> list[str]:
    """At most so many of the texts, which ones is decided by the scene."""
    start = zlib.crc32(scene.description.encode()) % max(1, len(texts))
    return [*texts[start:], *texts[:start]][:most]


def caption(scene: Scene, wording: int) -> str:
    """One wording of a scene, 0 ≤ wording < WORDINGS."""
    return (_of_one, _of_two, _of_three)[len(scene.others)](scene, wording)


def negative_captions(scene: Scene) -> list[str]:
    """Captions that are false of the scene and differ from a true one in a single respect.

    The respects: where things lie, which object has which colour, shape or size, what shape or colour there is at all,
    and the background. The wording of each is decided by the scene.
    """
    true = set(captions(scene))
    start = zlib.crc32(scene.description.encode())
    false = [caption(altered, (start + turn) % WORDINGS) for turn, altered in enumerate(_altered(scene))]
    return [text for text in dict.fromkeys(false) if text not in true]


def mirrored(scene: Scene) -> Scene:
    """The same objects with everything on the other side: left for right, above for below. A scene of several objects."""
    things = {OPPOSITE[direction]: thing for direction, thing in scene.others}
    return replace(scene, others=tuple((direction, things[direction]) for direction in OPPOSITE if direction in things))


def _altered(scene: Scene) -> Iterator[Scene]:
    main = scene.main
    if not scene.others:
        places = tuple(PLACES)
        yield replace(scene, place=places[-1 - places.index(scene.place)])
        yield replace(scene, place=_other(places, scene.place, 0))
        yield replace(scene, main=replace(main, size=_other(tuple(SIZES), main.size, 0)))
    else:
        yield from [mirrored(scene)] * 4  # in four wordings, because sides are by far the hardest to learn
        for field in ("colour", "shape", "size"):
            yield exchanged(scene, 0, field)
    if len(scene.others) == 2:
        (first, one), (second, two) = scene.others
        yield replace(scene, others=((first, two), (second, one)))
        yield exchanged(scene, 1, "colour")
    turn = zlib.crc32(scene.description.encode()) >> 8
    yield replace(scene, main=replace(main, shape=_other(tuple(SHAPES), main.shape, turn)))
    yield replace(scene, main=replace(main, colour=_other(tuple(COLOURS), main.colour, turn)))
    for position, (direction, thing) in enumerate(scene.others):
        others = list(scene.others)
        others[position] = (direction, replace(thing, shape=_other(tuple(SHAPES), thing.shape, turn)))
        yield replace(scene, others=tuple(others))
    pattern, colour = scene.background.split()
    if turn % 2:
        yield replace(scene, background=f"{_other(PATTERNS, pattern, turn)} {colour}")
    else:
        yield replace(scene, background=f"{pattern} {_other(tuple(BACKGROUND_COLOURS), colour, turn)}")


def _other(words: Sequence[str], word: str, turn: int) -> str:
    """One of the words that is not this one."""
    return words[(words.index(word) + 1 + turn % (len(words) - 1)) % len(words)]


def exchanged(scene: Scene, position: int, field: str) -> Scene:
    """The main object and another one with one property exchanged."""
    main, (direction, other) = scene.main, scene.others[position]
    others = list(scene.others)
    others[position] = (direction, replace(other, **{field: getattr(main, field)}))
    return replace(scene, main=replace(main, **{field: getattr(other, field)}), others=tuple(others))


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _of_one(scene: Scene, wording: int) -> str:
    thing, place, background = _a(scene.main.sized_name), scene.place, f"{scene.background} background"
    return (
        f"{thing} {place}, on a {background}",
        f"a picture of {thing} {place} against a {background}",
        f"on a {background}, {thing} {place}",
        f"a photo of {_a(scene.main.name)} that is {scene.main.size}, {place}, on {scene.background}",
        f"there is {thing} {place}, on {scene.background}",
    )[wording]


def _of_two(scene: Scene, wording: int) -> str:
    main, ((direction, other),) = scene.main, scene.others
    background = f"{scene.background} background"
    back = OPPOSITE[direction]
    return (
        f"{_a(main.sized_name)} {_RELATION[back]} {_a(other.sized_name)}, on a {background}",
        f"{_a(other.sized_name)} {_RELATION[direction]} {_a(main.sized_name)} against a {background}",
        f"a photo of {_a(main.name)} {_SIDE[back]} and {_a(other.name)} {_SIDE[direction]}, on {scene.background}",
        f"a picture of {_a(main.sized_name)} with {_a(other.sized_name)} {_OF_IT[direction]} on a {background}",
        f"there is {_a(other.sized_name)} {_SHORT_RELATION[direction]} {_a(main.sized_name)}, on {scene.background}",
    )[wording]


def _of_three(scene: Scene, wording: int) -> str:
    main, ((first, one), (second, two)) = scene.main, scene.others
    whole, left, right = _a(main.sized_name), _a(one.name), _a(two.name)
    return (
        f"{whole} with {left} {_OF_IT[first]} and {right} {_OF_IT[second]}, on {scene.background}",
        f"{right} {_SIDE[second]}, {left} {_SIDE[first]} and {whole}, on {scene.background}",
        f"a photo of {_a(main.name)} with {right} {_OF_IT[second]} and {left} {_OF_IT[first]}, on {scene.background}",
        f"{left} {_RELATION[first]} {whole} and {right} {_SHORT_RELATION[second]} it, on {scene.background}",
        f"there is {right} {_SHORT_RELATION[second]} {whole}, {left} {_SHORT_RELATION[first]} it, on {scene.background}",
    )[wording]
