"""Which texts are shown: the best, the worst, and those of which two measures think most differently."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.texts.corpus import Corpus
from clipmill.report.schema.texts import ExampleKind, TextExample

EACH = 6
_ORDER = ("CIDEr-D", "VQA accuracy", "exact match", "CLIPScore")
"""What texts are ranked by, the first that was measured; the last of them that was, if another, is what it is compared with."""
_LONGEST = 300
_SHOWN = 5


def measures(values: Mapping[str, NDArray[np.float64]]) -> tuple[str, str]:
    """What texts are ranked by, and what that is compared with; empty where there is nothing."""
    known = [name for name in _ORDER if name in values]
    return (known[0] if known else "", known[-1] if len(known) > 1 else "")


def choose(corpus: Corpus, values: Mapping[str, NDArray[np.float64]]) -> list[TextExample]:
    """Up to `EACH` of every kind; of equals the first, and no text twice."""
    first, other = measures(values)
    if not first:
        return []
    scores = values[first]
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(scores[known], kind="stable")]
    places: dict[ExampleKind, list[int]] = {"best": order[::-1][:EACH].tolist(), "worst": order[:EACH].tolist()}
    if other:
        both = np.flatnonzero(np.isfinite(scores) & np.isfinite(values[other]))
        apart = np.abs(_ranks(scores[both]) - _ranks(values[other][both]))
        places["disagreeing"] = both[np.argsort(-apart, kind="stable")][:EACH].tolist()
    shown: set[int] = set()
    found = []
    for kind, chosen in places.items():
        found += [_example(kind, at, corpus, values) for at in chosen if at not in shown]
        shown |= set(chosen)
    return found


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places of values among all, those of equals their mean."""
    ordered = np.sort(values)
    ranks: NDArray[np.float64] = (np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")) / 2
    return ranks


def _example(kind: ExampleKind, at: int, corpus: Corpus, values: Mapping[str, NDArray[np.float64]]) -> TextExample:
    row = int(corpus.rows[at])
    return TextExample(
        kind=kind,
        row=row,
        text=corpus.texts[at][:_LONGEST],
        references=[text[:_LONGEST] for text in corpus.references.get(row, ())[:_SHOWN]],
        answers=[text[:_LONGEST] for text in corpus.answers.get(row, ())[:_SHOWN]],
        values={name: round(float(found[at]), 4) for name, found in values.items() if np.isfinite(found[at])},
    )
