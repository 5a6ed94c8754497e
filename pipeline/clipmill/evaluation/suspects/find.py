"""All that is looked for in a dataset, as far as its captions, images and labels allow it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.classification.labels import Labels
from clipmill.evaluation.classification.zero_shot import ZeroShot
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.suspects.copies import Copies, find_copies
from clipmill.evaluation.suspects.labels import Confused, find_confused
from clipmill.evaluation.suspects.swapped import Swapped, find_swapped
from clipmill.evaluation.vectors import Vectors


@dataclass(frozen=True)
class Suspects:
    """What was found; None and empty where there is nothing, or it cannot be told. ``classes`` name those of ``confused``."""

    swapped: Swapped | None = None
    copies: Copies | None = None
    confused: tuple[Confused, ...] = ()
    classes: tuple[str, ...] = ()
    labelled: int = 0


def find_suspects(
    images: Vectors, ranks: Ranks | None, labels: Labels | None, zero_shot: ZeroShot | None, seed: int
) -> Suspects:
    """``ranks`` are those of captions among images."""
    confused: list[Confused] = []
    if labels is not None and len(images):
        named = _named(zero_shot) if zero_shot is not None else None
        confused = find_confused(images, labels.numbers, len(labels.values), named, seed)
    return Suspects(
        swapped=find_swapped(ranks) if ranks is not None else None,
        copies=find_copies(images, seed),
        confused=tuple(confused),
        classes=labels.values if labels is not None else (),
        labelled=int(np.sum(labels.numbers >= 0)) if labels is not None else 0,
    )


def _named(zero_shot: ZeroShot) -> NDArray[np.int64]:
    """Images by class and by the class whose name came first, of the most frequent confusions; all others are on the
    diagonal, as if they were right."""
    places = {name: number for number, name in enumerate(zero_shot.classes)}
    counts = np.zeros((len(places), len(places)), np.int64)
    for name, first, count in zero_shot.confusions:
        counts[places[name], places[first]] = count
    right = np.minimum(np.round(zero_shot.hits1).astype(np.int64), zero_shot.support - counts.sum(axis=1))
    counts[np.diag_indices_from(counts)] = np.maximum(right, 0)
    return counts
