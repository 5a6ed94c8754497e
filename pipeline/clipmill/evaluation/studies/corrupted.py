"""Robustness to worse pictures: embeddings of the same pictures, made worse, with the clean captions and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipmill.core.errors import UserError
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.figures import metric
from clipmill.evaluation.results import VariationPart
from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.studies.variations import Asked, ask, compare
from clipmill.evaluation.vectors import Vectors, blocks, read_vectors
from clipmill.source.corrupt import STRENGTHS, Corruption

_BLOCK = 8192
_AMOUNTS = {
    "blur": "σ {:.1%} of the shorter side",
    "noise": "σ {:.0%} of the range",
    "jpeg": "quality {:.0f}",
    "brightness": "+{:.0%} of the range",
    "crop": "{:.0%} of each side",
    "rotation": "{:.0f}°",
    "greyscale": "{:.0%} of the colour left",
}
"""What a strength of each kind of corruption amounts to."""


@dataclass(frozen=True)
class Corrupted:
    """An embeddings dataset of the same pictures, made worse."""

    corruption: Corruption
    embeddings: Embeddings


def open_corrupted(clean: Embeddings, uris: Sequence[str]) -> list[Corrupted]:
    """The datasets at ``uris``, by kind and strength.

    Raises UserError for one that differs from ``clean`` in more than the corruption (input, settings or model), and for
    two of one kind and strength.
    """
    found: dict[tuple[str, int], Corrupted] = {}
    for uri in uris:
        embeddings = Embeddings.open(uri)
        ours, theirs = clean.manifest, embeddings.manifest
        text = theirs.configuration.get("corrupt")
        if not isinstance(text, str):
            raise UserError(
                f"--robustness {uri}: its pictures are as they were; make it with `clipmill embed --corrupt`"
            )
        corruption = Corruption.parse(text)
        if ours.model is None:
            raise UserError(
                f"--robustness {uri}: the vectors of {clean.location} were made elsewhere, so nothing shows that they "
                "are of the same pictures and model"
            )
        differences = ["another model"] if theirs.model is None else theirs.model.differences(ours.model)
        differences += [
            f"another {name}"
            for key, name in (("inputs_digest", "input"), ("columns", "choice of columns"), ("limit", "limit"))
            if ours.configuration.get(key) != theirs.configuration.get(key)
        ]
        if differences:
            raise UserError(
                f"--robustness {uri}: it was made with {'; '.join(differences)} than {clean.location}, so the two cannot "
                "be compared; embed the same input with the same options and --corrupt"
            )
        key = (corruption.kind, corruption.strength)
        if key in found:
            raise UserError(f"--robustness {uri}: {found[key].embeddings.location} is {key[0]}:{key[1]} already")
        found[key] = Corrupted(corruption, embeddings)
    return [found[key] for key in sorted(found)]


def measure_corruption(
    corrupted: Corrupted,
    images: Vectors,
    captions: Vectors,
    asked: Asked,
    before: dict[str, ByQuery],
    scratch: Path,
    samples: int,
    seed: int,
) -> VariationPart:
    """Figures of one corrupted dataset's images with the clean captions, their changes from those ``before``, and the
    cosine of each image's vector with that of its worse self.

    ``scratch`` is an empty folder for what is too large for memory. Raises UserError where the images are others.
    """
    worse = read_vectors(corrupted.embeddings, "images", scratch)
    if not np.array_equal(worse.rows, images.rows):
        raise UserError(
            f"--robustness {corrupted.embeddings.location}: it has not the same images ({len(worse):,} of them, and not "
            f"the same {len(images):,})"
        )
    cosines = np.empty(len(asked.images))
    for part in blocks(len(asked.images), _BLOCK):
        at = asked.images[part]
        cosines[part] = np.einsum("ij,ij->i", images.values[at].astype(np.float64), worse.values[at].astype(np.float64))
    figures = ask(worse, captions, asked)
    figures["robustness.cosine"] = ByQuery(metric("robustness.cosine"), images.rows[asked.images], cosines)
    kind, strength = corrupted.corruption.kind, corrupted.corruption.strength
    amount = _AMOUNTS[kind].format(STRENGTHS[kind][strength - 1])
    return compare(kind, figures, before, samples, seed, strength=strength, amount=amount)
