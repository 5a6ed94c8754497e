"""Cosines of texts with their pictures and with their references, by a CLIP model, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmill.evaluation.progress import Progress
from clipmill.evaluation.texts.corpus import Corpus, Source
from clipmill.stage.checkpoints import Checkpoint

if TYPE_CHECKING:
    from clipmill.words.scorers.protocol import Scorer

_THREADS = 4


@dataclass(frozen=True)
class Cosines:
    """Of each text in order, float32 (t,), NaN where there is none: with its picture, and the largest with a reference.
    ``cut``, bool (t,): it is longer than the model reads."""

    picture: NDArray[np.float32]
    reference: NDArray[np.float32]
    cut: NDArray[np.bool_]


@dataclass(frozen=True)
class Fit:
    """What cosines are computed with: ``load`` gives a scorer by cosines; ``fetch`` reads pictures that are files."""

    load: Callable[[], Scorer]
    encode: Callable[[list[str]], NDArray[np.float32]]
    fetch: Callable[[str, str], bytes]
    max_image_pixels: int


def measure_cosines(corpus: Corpus, source: Source, fit: Fit, progress: Progress, checkpoint: Checkpoint) -> Cosines:
    """One pass over the pictures of rows that have texts; the model is loaded where not all is known from before."""
    parts = []
    with progress(len(corpus.texts), "the fit of texts to pictures") as step:
        for number in range(len(source.units)):
            made = checkpoint(f"cosines-{number:06d}", Cosines, partial(_of_unit, corpus, source, fit, number))
            parts.append(made)
            step(len(made.cut))
    return Cosines(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("picture", "reference", "cut"))
    )


def _of_unit(corpus: Corpus, source: Source, fit: Fit, number: int) -> Cosines:
    from clipmill.words.capfilt.pool import GENERATED, Text
    from clipmill.words.capfilt.unit import Judge

    judge = Judge(fit.load(), fit.max_image_pixels, fit.fetch)
    (raw,) = source.pictures(source.units.take([number]))
    rows = raw.column("row").to_numpy()
    start, stop = np.searchsorted(corpus.rows, rows[0]), np.searchsorted(corpus.rows, rows[-1], side="right")
    places = np.searchsorted(rows, corpus.rows[start:stop])
    said = list(corpus.texts[start:stop])
    texts = [Text(int(at), GENERATED, 0, text) for at, text in zip(places, said, strict=True)]
    with ThreadPoolExecutor(_THREADS) as pool:
        seen = judge.see(raw.take(np.unique(places)), pool) if len(places) else None
    if seen is None:
        return Cosines(np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.bool_))
    moved = {int(at): place for place, at in enumerate(np.unique(places))}
    scores = judge.scores(seen, [Text(moved[text.at], text.source, 0, text.text) for text in texts])
    return Cosines(scores, _with_references(corpus, fit, range(int(start), int(stop))), judge.scorer.cut_short(said))


def _with_references(corpus: Corpus, fit: Fit, places: range) -> NDArray[np.float32]:
    found = np.full(len(places), np.nan, np.float32)
    given = [
        (at, text) for at, place in enumerate(places) for text in corpus.references.get(int(corpus.rows[place]), ())
    ]
    if not given:
        return found
    said = fit.encode([corpus.texts[place] for place in places])
    known = fit.encode([text for _, text in given])
    owners = np.array([at for at, _ in given])
    cosines = np.einsum("ij,ij->i", said[owners], known)
    best = np.full(len(places), -np.inf, np.float32)
    np.maximum.at(best, owners, cosines)
    return np.where(np.isfinite(best), best, found).astype(np.float32)
