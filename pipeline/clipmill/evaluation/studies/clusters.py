"""Groups of images that are alike, each with its most typical ones and what they have in common."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.studies.map import components
from clipmill.evaluation.studies.space import unit
from clipmill.evaluation.vectors import Vectors

TYPICAL = 6
"""Images that are shown of a cluster."""
_MOST, _FEWEST_IMAGES = 12, 24
_APART = 0.05
"""Least mean silhouette (Rousseeuw 1987) of a division that is worth showing: below it the groups run into each other."""
_WORDS = 3
_WORD = re.compile(r"[^\W\d_]{3,}")
_COMMON = 0.3
"""A word names a cluster where so large a share of its texts have it."""


@dataclass(frozen=True)
class Clusters:
    """``numbers`` (n,) int64 are the clusters of the images at ``positions`` (n,), from 0 on in falling order of size; where
    the images form no groups there are none of either. ``typical`` (clusters, `TYPICAL`) are positions, most typical first, −1
    where a cluster has fewer. ``silhouette`` is the mean silhouette of the division."""

    positions: NDArray[np.int64]
    numbers: NDArray[np.int64]
    typical: NDArray[np.int64]
    silhouette: float

    def __len__(self) -> int:
        return len(self.typical)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images of the sample in each cluster."""
        return np.bincount(self.numbers, minlength=len(self.typical))


def find_clusters(images: Vectors, chosen: NDArray[np.int64], seed: int = 0) -> Clusters:
    """Divides the images at positions ``chosen`` (n,) into as many groups as fit best by their silhouette; into none where
    there are few images, or they form no groups."""
    nothing = Clusters(chosen[:0], chosen[:0], np.empty((0, TYPICAL), np.int64), 0.0)
    if len(chosen) < _FEWEST_IMAGES:
        return nothing
    found = components(unit(images.values[chosen]))
    distinct = len(np.unique(found.round(9), axis=0))
    if distinct < 3:
        return nothing
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    best: tuple[float, NDArray[np.int64], NDArray[np.float64]] | None = None
    for count in range(2, min(_MOST, distinct - 1) + 1):
        made = KMeans(count, n_init=2, random_state=seed).fit(found)
        apart = float(silhouette_score(found, made.labels_))
        if best is None or apart > best[0]:
            best = apart, made.labels_.astype(np.int64), made.cluster_centers_
    if best is None or best[0] < _APART:
        return nothing
    order = np.argsort(-np.bincount(best[1]), kind="stable")
    numbers = np.argsort(order)[best[1]]
    distances = np.linalg.norm(found - best[2][best[1]], axis=1)
    typical = np.full((len(order), TYPICAL), -1, np.int64)
    for number in range(len(order)):
        inside = np.flatnonzero(numbers == number)
        nearest = inside[np.argsort(distances[inside], kind="stable")][:TYPICAL]
        typical[number, : len(nearest)] = chosen[nearest]
    return Clusters(chosen, numbers, typical, best[0])


def names_by_labels(numbers: NDArray[np.int64], labels: NDArray[np.int64], values: Sequence[str]) -> list[str]:
    """The most frequent label of each cluster with its share, two of them where it is less than a half; nothing for a cluster
    without labels. ``numbers`` (n,) are clusters, ``labels`` (n,) numbers of ``values``, −1 without one."""
    names = []
    for number in range(int(numbers.max()) + 1):
        inside = labels[(numbers == number) & (labels >= 0)]
        counts = Counter(inside.tolist()).most_common(2)
        told = counts[:1] if counts and counts[0][1] >= len(inside) / 2 else counts
        names.append(", ".join(f"{values[label]} {count / len(inside):.0%}" for label, count in told))
    return names


def names_by_words(numbers: NDArray[np.int64], texts: Sequence[Sequence[str]]) -> list[str]:
    """Of each cluster the words that its texts have and those of the others have not: by the difference of the shares of images
    whose ``texts`` (n,) have a word. Nothing where no word sets a cluster apart."""
    has = [{word for text in of_image for word in _WORD.findall(text.lower())} for of_image in texts]
    everywhere = Counter(word for words in has for word in words)
    names = []
    for number in range(int(numbers.max()) + 1):
        inside = [words for words, at in zip(has, numbers.tolist(), strict=True) if at == number]
        others = max(1, len(has) - len(inside))
        here = Counter(word for words in inside for word in words)
        more = {
            word: count / len(inside) - (everywhere[word] - count) / others
            for word, count in here.items()
            if count >= _COMMON * len(inside)
        }
        ranked = sorted(more, key=lambda word: (-more[word], word))
        names.append(", ".join([word for word in ranked if more[word] >= _COMMON / 2][:_WORDS]))
    return names
