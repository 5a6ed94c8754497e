"""All that is looked for in a dataset, as far as its captions, images and labels allow it."""

from dataclasses import dataclass, replace

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
    images: Vectors,
    ranks: Ranks | None,
    labels: Labels | None,
    zero_shot: ZeroShot | None,
    seed: int,
    apart: NDArray[np.bool_] | None = None,
) -> Suspects:
    """``ranks`` are those of captions among images. Of images (n,) that are set ``apart``, since they do worse as a slice, it
    is known already what is wrong: what is not found among the others as well is not told a second time."""
    found = _find(images, ranks, labels, zero_shot, seed)
    if apart is None or not apart.any() or apart.all():
        return found
    return _also_in(found, _find(*_without(apart, images, ranks, labels), zero_shot, seed))


def _find(
    images: Vectors, ranks: Ranks | None, labels: Labels | None, zero_shot: ZeroShot | None, seed: int
) -> Suspects:
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


def _without(
    apart: NDArray[np.bool_], images: Vectors, ranks: Ranks | None, labels: Labels | None
) -> tuple[Vectors, Ranks | None, Labels | None]:
    """The other images with their labels, and the queries whose image is one of them; they still had the whole gallery."""
    kept = np.flatnonzero(~apart)
    others = Vectors(images.rows[kept], images.values[kept])
    if ranks is not None:
        ranks = ranks.take(np.isin(ranks.rows, others.rows))
    return others, ranks, None if labels is None else replace(labels, numbers=labels.numbers[kept])


def _also_in(found: Suspects, others: Suspects) -> Suspects:
    """What is ``found`` of all images and at least half as often among the others."""
    swapped, copies = found.swapped, found.copies
    if swapped and not (others.swapped and _ratio(others.swapped) >= _ratio(swapped) / 2):
        swapped = None
    if copies and not (others.copies and _ratio(others.copies) >= _ratio(copies) / 2):
        copies = None
    pairs = {(one.label, one.other) for one in others.confused}
    confused = tuple(one for one in found.confused if (one.label, one.other) in pairs)
    return replace(found, swapped=swapped, copies=copies, confused=confused)


def _ratio(found: Swapped | Copies) -> float:
    return found.count / max(1, found.captions if isinstance(found, Swapped) else found.images)


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
