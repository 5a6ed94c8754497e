"""Retrieval and zero-shot classification scored as MTEB scores them (version 2.26): the names and values of its results.

Of retrieval MTEB takes the first thousand results of every query, scores them by trec_eval and rounds means to five places;
relevance is binary here. Its nAUC says whether a model knows when it is right: how far dropping the queries that it was least
sure of raises a metric, between dropping at random (0) and by the metric itself (1) (Gisserot-Boukhlef et al. 2024,
arXiv:2402.12997).
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

CUTS = (1, 3, 5, 10, 20, 100, 1000)
DEPTH = max(CUTS)
_PLACES = 5
_STEPS = 10
"""Of the curve: none, a tenth, … nine tenths of the queries are dropped."""
_ROUNDED = ("ndcg", "map", "recall", "precision", "hit_rate")
_ABSTAINED = ("ndcg", "map", "recall", "precision", "mrr")
_TRUSTED = ("max", "std", "diff1")
"""What tells how sure a model was of a query: its highest score, the deviation of its scores, the lead of the first result."""

Array: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = dict[str, float | None]


def query_scores(relevant: NDArray[np.bool_], positives: NDArray[np.int64], scores: Array) -> dict[str, Array]:
    """Of every query all metrics, ``ndcg_at_10`` and the like, and how sure the model was, each float64 (q,).

    ``relevant`` (q, k) says which of its results are right, best first, with their ``scores`` (q, k); ``positives`` (q,) are
    all right answers that there are, one at least.
    """
    places = np.arange(1, relevant.shape[1] + 1)
    found = np.cumsum(relevant, axis=1)
    gained = np.cumsum(relevant / np.log2(1 + places), axis=1)
    precise = np.cumsum(relevant * found / places, axis=1)
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1, DEPTH + 1)))
    first = np.where(relevant.any(axis=1), relevant.argmax(axis=1) + 1, np.inf)
    each: dict[str, Array] = {}
    for cut in CUTS:
        last = min(cut, relevant.shape[1]) - 1
        each[f"ndcg_at_{cut}"] = gained[:, last] / ideal[np.minimum(positives, cut) - 1]
        each[f"map_at_{cut}"] = precise[:, last] / positives
        each[f"recall_at_{cut}"] = found[:, last] / positives
        each[f"precision_at_{cut}"] = found[:, last] / cut
        each[f"mrr_at_{cut}"] = np.where(first <= cut, 1 / first, 0.0)
        each[f"hit_rate_at_{cut}"] = (found[:, last] > 0).astype(np.float64)
    each["max"], each["std"] = scores[:, 0], scores.std(axis=1)
    each["diff1"] = scores[:, 0] - scores[:, 1] if scores.shape[1] > 1 else np.zeros(len(scores))
    return each


def retrieval_scores(blocks: Iterable[Mapping[str, Array]], count: int) -> Scores:
    """The scores of one direction from those of all its ``count`` queries, as `query_scores` gives them in blocks. What is not
    defined (nAUC where every query scores the same) is None."""
    each: dict[str, Array] = {}
    done = 0
    for block in blocks:
        for name, values in block.items():
            each.setdefault(name, np.empty(count))[done : done + len(values)] = values
        done += len(values)
    made: Scores = {}
    for name in _ROUNDED:
        made |= {f"{name}_at_{cut}": round(float(each[f"{name}_at_{cut}"].mean()), _PLACES) for cut in CUTS}
    made |= {f"mrr_at_{cut}": float(each[f"mrr_at_{cut}"].mean()) for cut in CUTS}
    made["accuracy"] = made["recall_at_1"]
    for name in _ABSTAINED:
        for cut in CUTS:
            for trusted in _TRUSTED:
                made[f"nauc_{name}_at_{cut}_{trusted}"] = _nauc(each[trusted], each[f"{name}_at_{cut}"])
    made["main_score"] = made["ndcg_at_10"]
    return made


def _nauc(sure: Array, metric: Array) -> float | None:
    """The area under the curve of ``metric`` (q,) as queries are dropped by how ``sure`` (q,) the model was, normalised."""
    raw, best = _abstaining(sure, metric), _abstaining(metric, metric)
    under, over = (float((curve[1:] + curve[:-1]).sum() / 2) for curve in (raw, best))
    flat = float(best[0]) * (_STEPS - 1)
    return None if over == flat else (under - flat) / (over - flat)


def _abstaining(sure: Array, metric: Array) -> Array:
    """The mean of ``metric`` over the queries that are left once a share of the least ``sure`` were dropped; of queries
    that are equally sure each counts as their mean."""
    order = np.argsort(sure, kind="stable")
    _, group, sizes = np.unique(sure[order], return_inverse=True, return_counts=True)
    values = (np.bincount(group, metric[order]) / sizes)[group]
    dropped = [min(round(step / _STEPS * len(sure)), len(sure) - 1) for step in range(_STEPS)]
    return np.array([values[count:].mean() for count in dropped])


def classification_scores(truth: NDArray[np.int64], given: NDArray[np.int64], second: Array | None = None) -> Scores:
    """Of images whose classes are ``truth`` (n,) and were told as ``given`` (n,), one image at least. ``second`` (n,) has
    the scores of the second class, float64, where there are two."""
    from sklearn import metrics

    made: Scores = {"accuracy": float(metrics.accuracy_score(truth, given))}
    for name, measure in (
        ("f1", metrics.f1_score),
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
    ):
        for suffix, average in (("", "macro"), ("_weighted", "weighted")):
            made[name + suffix] = float(measure(truth, given, average=average, zero_division=0))
    two = second is not None and len(np.unique(truth)) == 2
    precise = float(metrics.average_precision_score(truth, second)) if two else None
    return {**made, "ap": precise, "ap_weighted": precise, "main_score": made["accuracy"]}
