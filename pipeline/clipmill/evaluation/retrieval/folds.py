"""The COCO protocols: R@K among 1,000 images, mean of five folds, and among 5,000 (Karpathy and Fei-Fei 2015)."""

import numpy as np
from numpy.typing import NDArray

from clipmill.core.intervals import proportion_interval
from clipmill.evaluation.figures import metric
from clipmill.evaluation.results import ProtocolPart
from clipmill.evaluation.retrieval.measures import RECALL_AT
from clipmill.evaluation.retrieval.ranks import Ranks, rank_positives
from clipmill.evaluation.retrieval.retrieval import Direction
from clipmill.evaluation.vectors import Vectors

FOLDS = 5
FOLD_IMAGES = 1000


def coco_protocols(images: Vectors, captions: Vectors, seed: int = 0) -> list[ProtocolPart]:
    """Both directions of 1k and 5k over 5,000 images that have a caption; none where there are fewer.

    Each figure is the mean over folds of R@K. Of more than 5,000 images, as many are drawn with ``seed``. They stay in the
    dataset's order, and folds are consecutive.
    """
    captioned = np.flatnonzero(np.isin(images.rows, captions.rows))
    wanted = FOLDS * FOLD_IMAGES
    if len(captioned) < wanted:
        return []
    drawn = np.sort(np.random.default_rng(seed).permutation(len(captioned))[:wanted])
    chosen = captioned[drawn]
    return [
        part
        for name, folds in (("1k", FOLDS), ("5k", 1))
        for part in _protocol(name, np.split(chosen, folds), images, captions)
    ]


def _protocol(name: str, folds: list[NDArray[np.int64]], images: Vectors, captions: Vectors) -> list[ProtocolPart]:
    ranked: dict[Direction, list[Ranks]] = {"t2i": [], "i2t": []}
    for fold in folds:
        pictures = Vectors(images.rows[fold], images.values[fold])
        said = np.flatnonzero(np.isin(captions.rows, pictures.rows))
        texts = Vectors(captions.rows[said], captions.values[said])
        sides: dict[Direction, tuple[Vectors, Vectors]] = {"t2i": (texts, pictures), "i2t": (pictures, texts)}
        for direction, (queries, gallery) in sides.items():
            ranked[direction].append(rank_positives(queries, gallery))
    parts = []
    for direction, of_folds in ranked.items():
        rows = np.concatenate([ranks.rows for ranks in of_folds])
        # Folds count alike, however many queries they have.
        share = np.concatenate([np.full(len(ranks), len(rows) / (len(of_folds) * len(ranks))) for ranks in of_folds])
        figures = [
            metric(f"{direction}.{name}_recall@{k}").figure(
                proportion_interval(np.concatenate([ranks.hits(k) for ranks in of_folds]), rows, share)
            )
            for k in RECALL_AT
        ]
        parts.append(
            ProtocolPart(
                name=name,
                direction=direction,
                folds=len(folds),
                images=len(folds[0]),
                captions=sum(map(len, ranked["t2i"])),
                figures=figures,
            )
        )
    return parts
