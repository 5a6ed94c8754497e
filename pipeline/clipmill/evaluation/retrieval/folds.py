"""The COCO protocols: R@K among 1,000 images, mean of five folds, and among 5,000 (Karpathy and Fei-Fei 2015)."""

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.figures import metric
from clipmill.evaluation.results import ProtocolPart
from clipmill.evaluation.retrieval.measures import RECALL_AT
from clipmill.evaluation.retrieval.ranks import rank_positives
from clipmill.evaluation.retrieval.retrieval import Direction
from clipmill.evaluation.statistics.bootstrap import percentile_interval, resampled_means
from clipmill.evaluation.vectors import Vectors

FOLDS = 5
FOLD_IMAGES = 1000


def coco_protocols(images: Vectors, captions: Vectors, samples: int = 1000, seed: int = 0) -> list[ProtocolPart]:
    """Both directions of 1k and 5k over 5,000 images that have a caption; none where there are fewer.

    Each figure is the mean over folds of R@K, and its interval resamples images within each fold. Of more than 5,000
    images, as many are drawn with ``seed``. They stay in the dataset's order, and folds are consecutive.
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
        for part in _protocol(name, np.split(chosen, folds), images, captions, samples, seed)
    ]


def _protocol(
    name: str, folds: list[NDArray[np.int64]], images: Vectors, captions: Vectors, samples: int, seed: int
) -> list[ProtocolPart]:
    hits: dict[Direction, list[NDArray[np.float64]]] = {"t2i": [], "i2t": []}
    resampled: dict[Direction, list[NDArray[np.float64]]] = {"t2i": [], "i2t": []}
    in_all = {"t2i": 0, "i2t": 0}
    for number, fold in enumerate(folds):
        pictures = Vectors(images.rows[fold], images.values[fold])
        said = np.flatnonzero(np.isin(captions.rows, pictures.rows))
        texts = Vectors(captions.rows[said], captions.values[said])
        sides: dict[Direction, tuple[Vectors, Vectors]] = {"t2i": (texts, pictures), "i2t": (pictures, texts)}
        for direction, (queries, gallery) in sides.items():
            ranks = rank_positives(queries, gallery)
            in_all[direction] += len(ranks)
            found = np.stack([ranks.hits(k) for k in RECALL_AT], axis=1)
            hits[direction].append(found.mean(axis=0))
            resampled[direction].append(resampled_means(found, ranks.rows, samples, seed + number))
    parts = []
    for direction in hits:
        means, draws = np.mean(hits[direction], axis=0), np.mean(resampled[direction], axis=0)
        intervals = {
            k: percentile_interval(float(mean), drawn if samples else np.array([mean]), in_all[direction])
            for k, mean, drawn in zip(RECALL_AT, means, draws.T, strict=True)
        }
        figures = [metric(f"{direction}.{name}_recall@{k}").figure(interval) for k, interval in intervals.items()]
        parts.append(
            ProtocolPart(
                name=name,
                direction=direction,
                folds=len(folds),
                images=len(folds[0]),
                captions=in_all["t2i"],
                figures=figures,
            )
        )
    return parts
