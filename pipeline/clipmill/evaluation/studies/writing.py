"""Robustness to writing: captions and class prompts in other case and with typing errors, encoded again."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.classification.templates import prompts
from clipmill.evaluation.classification.zero_shot import Encode, class_vectors
from clipmill.evaluation.results import RobustnessPart
from clipmill.evaluation.retrieval.ranks import rank_positives
from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.studies.perturb import AS_WRITTEN, VARIATIONS
from clipmill.evaluation.studies.space import draw
from clipmill.evaluation.studies.variations import Classes, class_hits, compare, hits_of
from clipmill.evaluation.vectors import Vectors

QUERY_CAPTIONS = 2000
"""Captions that are written differently and encoded again."""


def draw_captions(
    embeddings: Embeddings, answerable: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], list[str]]:
    """At most `QUERY_CAPTIONS` of the captions at these positions, in rising order, and their texts."""
    ordered = np.sort(answerable)
    chosen = ordered[draw(len(ordered), QUERY_CAPTIONS, np.random.default_rng(seed))]
    texts: list[str] = []
    start = 0
    for batch in embeddings.batches("captions", ["caption"]):
        first, last = np.searchsorted(chosen, [start, start + batch.num_rows])
        texts += batch.column(0).take(chosen[first:last] - start).to_pylist()
        start += batch.num_rows
    return chosen, texts


def measure_writing(
    encode: Encode,
    images: Vectors,
    caption_rows: NDArray[np.int64],
    texts: Sequence[str],
    classes: Classes | None,
    samples: int,
    seed: int,
) -> RobustnessPart:
    """R@1 of captions (their ``texts`` and rows) among all images, and acc1 of class prompts, each way of writing them.

    There are captions, or classes, or both.
    """
    found: dict[str, tuple[dict[str, ByQuery], str]] = {}
    for name, vary in VARIATIONS.items():
        figures = []
        if len(texts):
            written = [vary(text, seed) for text in texts]
            queries = Vectors(caption_rows, encode(written).astype(np.float16))
            figures.append(hits_of("t2i", rank_positives(queries, images)))
        if classes:
            vectors = class_vectors(
                lambda prompts, vary=vary: encode([vary(prompt, seed) for prompt in prompts]),  # type: ignore[misc]
                classes.names,
                classes.templates,
            )
            figures.append(class_hits(images, classes, vectors))
        example = texts[0] if len(texts) else prompts(classes.templates, classes.names[0])[0] if classes else ""
        found[name] = {figure.metric.key: figure for figure in figures}, vary(example, seed)
    before = found[AS_WRITTEN][0]
    return RobustnessPart(
        clean=[figure.figure for figure in before.values()],
        variations=[
            compare(name, figures, before, samples, seed, example=example)
            for name, (figures, example) in found.items()
            if name != AS_WRITTEN
        ],
    )
