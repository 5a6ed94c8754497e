"""What a report shows of single images and queries: what the map is coloured by, names of clusters, the hardest queries."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.classification.labels import Labels
from clipmill.evaluation.classification.zero_shot import ZeroShot
from clipmill.evaluation.hardest import hardest
from clipmill.evaluation.outcomes import PART_OF, Outcomes, Task
from clipmill.evaluation.retrieval.counting import pair_products
from clipmill.evaluation.studies.clusters import Clusters, names_by_labels, names_by_words
from clipmill.evaluation.studies.map import Map
from clipmill.evaluation.studies.slicing import Slicing
from clipmill.evaluation.vectors import Vectors

NO_IMAGE = -1


@dataclass(frozen=True)
class Colour:
    """What the points of a map are coloured by. ``values`` (n,) float64 are numbers of ``names`` or, where there are no names,
    on a scale; NaN where there is none."""

    title: str
    names: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Listed:
    """Queries of a task by their ``positions`` (q,) in its part. ``images`` are the positions of their own images, −1 without
    one, ``hits`` the probability that a positive, or the right class, comes first, ``given`` the class that came first, and
    ``slices`` the slice of each of `Shown.columns`."""

    task: Task
    positions: NDArray[np.int64]
    images: NDArray[np.int64]
    ranks: NDArray[np.float64] | None
    hits: NDArray[np.float64]
    labels: tuple[str | None, ...]
    given: tuple[str | None, ...]
    slices: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Shown:
    """``colours`` of the map, ``cluster_names`` (empty where nothing names one), and queries, with the ``columns`` that they
    are sliced by."""

    colours: list[Colour] = field(default_factory=list)
    cluster_names: list[str] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    listed: list[Listed] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """What there is to choose from."""

    embeddings: Embeddings
    images: Vectors
    captions: Vectors
    labels: Labels | None
    zero_shot: ZeroShot | None
    slicings: Sequence[Slicing]
    outcomes: Sequence[Outcomes]


def choose_shown(of: Measured, drawn: Map | None, clusters: Clusters | None, seed: int) -> Shown:
    """Everything of it, drawn with ``seed`` where there is too much."""
    names = _cluster_names(of, clusters) if clusters else []
    return Shown(
        colours=_colours(of, drawn.positions, clusters, names) if drawn else [],
        cluster_names=names,
        columns=tuple(slicing.column for slicing in of.slicings),
        listed=[_listed(of, outcome, seed) for outcome in of.outcomes if len(outcome)],
    )


def places_of(image_rows: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The position (n,) of the image of each of ``rows`` (n,), −1 where there is none."""
    if not len(image_rows):
        return np.full(len(rows), NO_IMAGE)
    order = np.argsort(image_rows, kind="stable")
    place = np.minimum(np.searchsorted(image_rows, rows, sorter=order), len(order) - 1)
    found = order[place]
    return np.where(image_rows[found] == rows, found, NO_IMAGE)


def _colours(of: Measured, positions: NDArray[np.int64], clusters: Clusters | None, names: list[str]) -> list[Colour]:
    colours = []
    if of.labels is not None and of.labels.classes:
        numbers = of.labels.numbers[positions].astype(np.float64)
        colours.append(Colour(of.labels.column, of.labels.classes, np.where(numbers < 0, np.nan, numbers)))
    for slicing in of.slicings:
        if of.labels is None or slicing.column != of.labels.column:
            texts = tuple(name.text or "no value" for name in slicing.names)
            colours.append(Colour(slicing.column, texts, slicing.numbers[positions].astype(np.float64)))
    if clusters is not None:
        titles = tuple(f"{number}: {name}" if name else str(number) for number, name in enumerate(names, start=1))
        colours.append(Colour("cluster", titles, clusters.numbers.astype(np.float64)))
    means = _cosines_with_captions(of, positions)
    if not np.isnan(means).all():
        colours.append(Colour("cosine with its captions", (), means))
    return colours


def _cosines_with_captions(of: Measured, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean cosine of each image at ``positions`` (n,) with its captions; NaN without one."""
    said = np.flatnonzero(np.isin(of.captions.rows, of.images.rows[positions]))
    places = places_of(of.images.rows[positions], of.captions.rows[said])
    cosines = pair_products(of.captions.values, said, of.images.values, positions[places])
    count = np.bincount(places, minlength=len(positions))
    total = np.bincount(places, cosines, minlength=len(positions))
    means: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def _cluster_names(of: Measured, clusters: Clusters) -> list[str]:
    """By labels where there are such, else by the words of captions."""
    if of.labels is not None and of.labels.classes:
        return names_by_labels(clusters.numbers, of.labels.numbers[clusters.positions], of.labels.classes)
    if not len(of.captions):
        return [""] * len(clusters.typical)
    texts: dict[int, list[str]] = {row: [] for row in of.images.rows[clusters.positions].tolist()}
    wanted = pa.array(list(texts), pa.int64())
    for batch in of.embeddings.batches("captions", ["row", "caption"]):
        kept = batch.filter(
            pc.and_(pc.is_in(batch.column("row"), value_set=wanted), pc.is_valid(batch.column("caption")))
        )
        for row, text in zip(kept.column("row").to_pylist(), kept.column("caption").to_pylist(), strict=True):
            texts[row].append(text)
    return names_by_words(clusters.numbers, list(texts.values()))


def _listed(of: Measured, outcome: Outcomes, seed: int) -> Listed:
    images = _own_images(of, outcome)
    numbers = [of.labels.numbers] if of.labels is not None else []
    numbers += [slicing.numbers for slicing in of.slicings]
    groupings = [np.where(images == NO_IMAGE, -1, one[images]) for one in numbers if len(one)]
    chosen = hardest(outcome, groupings, seed)
    own = images[chosen]
    return Listed(
        task=outcome.task,
        positions=outcome.positions[chosen],
        images=own,
        ranks=outcome.rank[chosen] if outcome.rank is not None else None,
        hits=outcome.hits[1][chosen],
        labels=tuple(_label(of.labels, at) for at in own.tolist()),
        given=_given(of, outcome, own),
        slices=tuple(tuple(_slice(slicing, at) for slicing in of.slicings) for at in own.tolist()),
    )


def _own_images(of: Measured, outcome: Outcomes) -> NDArray[np.int64]:
    part = PART_OF[outcome.task]
    if part == "images":
        return outcome.positions
    if part == "captions":
        return places_of(of.images.rows, of.captions.rows[outcome.positions])
    return np.full(len(outcome), NO_IMAGE)


def _label(labels: Labels | None, image: int) -> str | None:
    if labels is None or image == NO_IMAGE or labels.numbers[image] < 0:
        return None
    return labels.classes[int(labels.numbers[image])]


def _slice(slicing: Slicing, image: int) -> str:
    if image == NO_IMAGE:
        return ""
    return slicing.names[int(slicing.numbers[image])].text


def _given(of: Measured, outcome: Outcomes, images: NDArray[np.int64]) -> tuple[str | None, ...]:
    if outcome.task != "zero-shot" or of.zero_shot is None:
        return (None,) * len(images)
    scores = of.images.values[images].astype(np.float64) @ of.zero_shot.vectors.T.astype(np.float64)
    return tuple(of.zero_shot.classes[number] for number in scores.argmax(axis=1).tolist())
