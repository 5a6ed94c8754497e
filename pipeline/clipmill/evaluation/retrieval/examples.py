"""Which queries to show: the best, the typical and the worst, and what exact search returns for them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.vectors import Vectors, blocks
from clipmill.index.search.exact import exact_top_k

_BLOCK = 65_536
Kind = Literal["best", "typical", "worst"]


@dataclass(frozen=True)
class Example:
    """One query by position, its best positive ``own`` with its score and expected rank, and what it returns.

    ``results`` are gallery positions, best first, with their ``scores``.
    """

    kind: Kind
    query: int
    own: int
    rank: float
    score: float
    results: NDArray[np.int64]
    scores: NDArray[np.float32]


def choose_examples(
    ranks: Ranks, queries: Vectors, gallery: Vectors, *, each: int = 4, k: int = 5, seed: int = 0
) -> list[Example]:
    """Best: first place, highest score. Worst: lowest place. Typical: drawn at random. At most one per image."""
    rank = ranks.expected_rank()
    drawn = np.random.default_rng(seed).permutation(len(ranks))
    wanted: dict[Kind, NDArray[np.int64]] = {
        "best": np.lexsort((-ranks.score, rank)),
        "typical": drawn,
        "worst": np.lexsort((ranks.score, -rank)),
    }
    taken: set[int] = set()
    chosen: list[tuple[Kind, int]] = []
    for kind, order in wanted.items():
        count = 0
        for number in order:
            row = int(ranks.rows[number])
            if count < each and row not in taken:
                taken.add(row)
                chosen.append((kind, int(number)))
                count += 1
            if count == each:
                break
    at = ranks.positions[[number for _, number in chosen]]
    stream = ((part.start, gallery.values[part]) for part in blocks(len(gallery), _BLOCK))
    scores, results = exact_top_k(queries.values[at].astype(np.float32), stream, min(k, len(gallery)))
    return [
        Example(
            kind=kind,
            query=int(ranks.positions[number]),
            own=int(ranks.best[number]),
            rank=float(rank[number]),
            score=float(ranks.score[number]),
            results=results[i],
            scores=scores[i],
        )
        for i, (kind, number) in enumerate(chosen)
    ]
