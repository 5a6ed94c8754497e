"""The same queries asked again with a variation in them: which queries, and how their figures change."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.classification.zero_shot import ZeroShot, classify
from clipmill.evaluation.figures import metric
from clipmill.evaluation.results import VariationPart
from clipmill.evaluation.retrieval.measures import hit_rate_of
from clipmill.evaluation.retrieval.ranks import Ranks, rank_positives
from clipmill.evaluation.retrieval.retrieval import Direction
from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.studies.space import draw
from clipmill.evaluation.vectors import Vectors, blocks

QUERY_IMAGES = 5000
"""Images that queries are about, with all their captions: enough to see a change of one per cent."""
_BLOCK = 8192


@dataclass(frozen=True)
class Classes:
    """Labelled images by position, their class ``numbers``, the ``names`` that prompts are made of, and their vectors."""

    positions: NDArray[np.int64]
    numbers: NDArray[np.int64]
    names: tuple[str, ...]
    templates: tuple[str, ...]
    vectors: NDArray[np.float32]

    @staticmethod
    def of(result: ZeroShot, names: tuple[str, ...], templates: tuple[str, ...]) -> "Classes":
        """The images that were classified, by the ``names`` that their prompts were made of."""
        return Classes(result.positions, result.truth, names, templates, result.vectors)


@dataclass(frozen=True)
class Asked:
    """The queries of every variation: drawn images, their captions, and those of them that have a label."""

    images: NDArray[np.int64]
    captions: NDArray[np.int64]
    classes: Classes | None

    @staticmethod
    def draw(images: Vectors, captions: Vectors, classes: Classes | None, seed: int) -> "Asked":
        """At most `QUERY_IMAGES` images, drawn with ``seed``."""
        chosen = draw(len(images), QUERY_IMAGES, np.random.default_rng(seed))
        of_chosen = np.flatnonzero(np.isin(captions.rows, images.rows[chosen]))
        if classes is None:
            return Asked(chosen, of_chosen, None)
        labelled = np.isin(classes.positions, chosen)
        if not labelled.any():
            return Asked(chosen, of_chosen, None)
        few = Classes(
            classes.positions[labelled], classes.numbers[labelled], classes.names, classes.templates, classes.vectors
        )
        return Asked(chosen, of_chosen, few)


def ask(images: Vectors, captions: Vectors, asked: Asked) -> dict[str, ByQuery]:
    """R@1 both ways over the whole gallery and acc1, by key; those that there are queries for."""
    found = []
    if len(asked.captions):
        t2i = rank_positives(captions, images, asked.captions)
        i2t = rank_positives(images, captions, asked.images)
        found = [hits_of("t2i", t2i), hits_of("i2t", i2t)]
    if asked.classes:
        found.append(class_hits(images, asked.classes, asked.classes.vectors))
    return {figure.metric.key: figure for figure in found}


def hits_of(direction: Direction, ranks: Ranks) -> ByQuery:
    """R@1 of ranked queries."""
    return ByQuery(hit_rate_of(direction, 1), ranks.rows, ranks.hits(1))


def class_hits(images: Vectors, classes: Classes, vectors: NDArray[np.float32]) -> ByQuery:
    """acc1 of labelled images with the classes' ``vectors`` (c, d)."""
    batches = (
        (images.values[classes.positions[part]], classes.numbers[part])
        for part in blocks(len(classes.positions), _BLOCK)
    )
    result = classify(batches, classes.names, vectors, samples=0)
    return ByQuery(metric("zero-shot.acc1"), images.rows[classes.positions], result.each1)


def compare(
    name: str,
    figures: dict[str, ByQuery],
    before: dict[str, ByQuery],
    samples: int,
    seed: int,
    *,
    strength: int = 0,
    amount: str = "",
    example: str = "",
) -> VariationPart:
    """The figures of one variation, and their change from those ``before`` it, on the same queries in the same order."""
    changed = [figure.change_from(before[key], samples, seed) for key, figure in figures.items() if key in before]
    return VariationPart(
        name=name,
        strength=strength,
        amount=amount,
        example=example,
        figures=[figure.figure for figure in figures.values()],
        changes=changed,
    )
