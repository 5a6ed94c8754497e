"""The outcome of each single query: what a comparison of two models on the same queries needs."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.classification.zero_shot import ZeroShot
from clipmill.evaluation.directions import DIRECTIONS, Direction, sides_of
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.retrieval.reciprocal import reciprocal_rank

Task = Direction | Literal["zero-shot"]
HITS_AT = (1, 5, 10)
PART_OF: dict[Task, str] = {**{task: sides_of(task)[0] for task in DIRECTIONS}, "zero-shot": "images"}
"""The part of a dataset whose items are the queries of a task."""


@dataclass(frozen=True)
class Outcomes:
    """The queries of one task by their ``positions`` in its part, int64 (q,).

    ``hits[K]`` float64 (q,) is whether a positive (zero-shot: the right class) is among the first K, a probability where
    scores tie. ``rank`` float64 (q,) is the expected place of the first positive from 1 and ``reciprocal_rank`` the expected
    1 / place, which is not 1 / ``rank`` where scores tie; both None for zero-shot, which has ``truth`` int64 (q,) instead,
    numbers of ``classes``. ``weights`` float64 (q,) are of queries that were drawn at several rates, and ``of`` queries they
    were drawn from; None where all were asked.
    """

    task: Task
    positions: NDArray[np.int64]
    hits: dict[int, NDArray[np.float64]]
    rank: NDArray[np.float64] | None = None
    reciprocal_rank: NDArray[np.float64] | None = None
    truth: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    weights: NDArray[np.float64] | None = None
    of: int | None = None

    def __len__(self) -> int:
        return len(self.positions)


def outcomes_of_ranks(task: Direction, ranks: Ranks) -> Outcomes:
    """The outcomes of ranked queries."""
    hits = {k: ranks.hits(k) for k in HITS_AT}
    places = ranks.expected_rank(), reciprocal_rank(ranks)
    return Outcomes(task, ranks.positions, hits, *places, weights=ranks.weights, of=ranks.of)


def outcomes_of_classes(result: ZeroShot) -> Outcomes:
    """The outcomes of labelled images."""
    hits = {1: result.each1}
    if len(result.classes) >= 5:
        hits[5] = result.each5
    return Outcomes("zero-shot", result.positions, hits, truth=result.truth, classes=result.classes)
