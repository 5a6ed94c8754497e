"""What a scene contains, drawn by lot from a seed and a row number, and which split it belongs to."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TypeVar

from clipmill.scenes.vocabulary import BACKGROUND_COLOURS, COLOURS, DIRECTIONS, PATTERNS, PLACES, SHAPES, SIZES

HELD_OUT_SHARE = 5
"""One canonical scene in this many is held out."""

_OBJECT_COUNTS = (1, 2, 2, 2, 3)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Thing:
    """One object: keys of SIZES, COLOURS and SHAPES."""

    size: str
    colour: str
    shape: str

    @property
    def name(self) -> str:
        """The label: colour and shape."""
        return f"{self.colour} {self.shape}"

    @property
    def sized_name(self) -> str:
        return f"{self.size} {self.name}"


@dataclass(frozen=True)
class Scene:
    """A main object, larger than the others, and where those lie as seen from it.

    ``others`` are pairs of a direction and an object, each direction once, in the order of DIRECTIONS. ``place`` is
    where the main object lies when it is alone, else empty. ``background`` is pattern and colour.
    """

    main: Thing
    others: tuple[tuple[str, Thing], ...]
    place: str
    background: str

    @property
    def things(self) -> tuple[Thing, ...]:
        return (self.main, *(thing for _, thing in self.others))

    @cached_property
    def description(self) -> str:
        """The canonical description: two scenes are the same exactly if theirs are."""
        parts = [self.main.sized_name, *(f"{thing.sized_name} {direction}" for direction, thing in self.others)]
        return "; ".join([*parts, *([self.place] if self.place else []), f"{self.background} background"])

    @property
    def split(self) -> str:
        """``train`` or ``held-out``, decided by the description alone, so that the two never share a scene."""
        return "held-out" if zlib.crc32(self.description.encode()) % HELD_OUT_SHARE == 0 else "train"


def pick(random: Random, items: Sequence[Item]) -> Item:
    """One of the items. Only ``Random.random`` is promised to stay the same over Python versions."""
    return items[int(random.random() * len(items))]


def scene_of_row(split: str, seed: int, row: int) -> tuple[Scene, Random]:
    """The scene of one row, and the random numbers to draw its picture with. The same whatever other rows there are."""
    random = Random(f"{split}/{seed}/{row}")
    while True:
        scene = _draw(random)
        if scene.split == split:
            return scene, random


_SMALL, _MEDIUM, _LARGE = SIZES


def _draw(random: Random) -> Scene:
    count = pick(random, _OBJECT_COUNTS)
    names: list[tuple[str, str]] = []
    while len(names) < count:
        name = (pick(random, tuple(COLOURS)), pick(random, tuple(SHAPES)))
        if name not in names:
            names.append(name)
    if count == 1:
        sizes = [pick(random, (_SMALL, _MEDIUM, _LARGE))]
    elif count == 2:
        sizes = list(pick(random, ((_LARGE, _MEDIUM), (_LARGE, _SMALL), (_MEDIUM, _SMALL))))
    else:
        sizes = [pick(random, (_LARGE, _MEDIUM)), _SMALL, _SMALL]
    things = [Thing(size, *name) for size, name in zip(sizes, names, strict=True)]
    directions: set[str] = set()
    while len(directions) < count - 1:
        directions.add(pick(random, tuple(DIRECTIONS)))
    ordered = [direction for direction in DIRECTIONS if direction in directions]
    return Scene(
        main=things[0],
        others=tuple(zip(ordered, things[1:], strict=True)),
        place=pick(random, tuple(PLACES)) if count == 1 else "",
        background=f"{pick(random, PATTERNS)} {pick(random, tuple(BACKGROUND_COLOURS))}",
    )
