"""The sample of a direction's queries that the settings ask for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.datasets.row_hash import item_keys
from clipmill.evaluation.directions import Direction, sides_of
from clipmill.evaluation.retrieval.draw import Sample, draw_sample
from clipmill.evaluation.studies.slicing import Slicing
from clipmill.evaluation.vectors import Vectors


def sample_of(
    embeddings: Embeddings,
    direction: Direction,
    queries: Vectors,
    positions: NDArray[np.int64],
    image_rows: NDArray[np.int64],
    slicings: Sequence[Slicing],
    settings: EvaluateSettings,
) -> Sample | None:
    """The queries to rank of those at ``positions``, which have an answer; None: all.

    ``slicings`` number the images, whose rows are ``image_rows``; a query is in the slices of the image of its row.
    """
    most = settings.ranked_at_most
    if most is None or len(positions) <= most:
        return None
    order = np.argsort(image_rows, kind="stable")
    numbered = [_of_queries(slicing, queries.rows[positions], image_rows, order) for slicing in slicings]
    keys = item_keys(embeddings, sides_of(direction)[0], settings.seed)[positions]
    return draw_sample(positions, keys, most, numbered)


def _of_queries(
    slicing: Slicing, rows: NDArray[np.int64], image_rows: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The slice (q,) of the image of each of ``rows`` (q,), −1 without one; ``order`` puts ``image_rows`` in order."""
    image = order[np.minimum(np.searchsorted(image_rows, rows, sorter=order), len(order) - 1)]
    return np.where(image_rows[image] == rows, slicing.numbers[image], -1)
