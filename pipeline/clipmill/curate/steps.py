"""The steps of finding near-duplicates. Each leaves its result in the staging folder, and does nothing where it is there.

``alive`` is called when something was read or compared, so that those who wait know that the step is moving.
"""

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.curate.dedup import Dedup
from clipmill.curate.near import Pairs, Tile, near_pairs, rotation_of
from clipmill.datasets.manifests import vectors_of
from clipmill.index.build.layout import ShardRange
from clipmill.index.build.sample import sample_vectors
from clipmill.index.search.products import device_for
from clipmill.stage.checkpoints import load, save
from clipmill.stage.pieces import Alive, no_heartbeat

_SAMPLE_ROWS = 10_000
_SEED = 0


def rotate(dedup: Dedup, alive: Alive = no_heartbeat) -> None:
    """Finds the directions in which vectors differ most, from a sample."""
    if load(dedup.rotation, list[NDArray[np.float32]]) is None:
        sample = sample_vectors(dedup.gallery, _SAMPLE_ROWS, _SEED, alive)
        save(dedup.rotation, [rotation_of(sample)])


def compare(dedup: Dedup, strip: ShardRange, alive: Alive = no_heartbeat) -> None:
    """Compares a strip with itself and with all strips after it."""
    place = dedup.strip(strip)
    if load(place, Pairs) is not None:
        return
    found = load(dedup.rotation, list[NDArray[np.float32]])
    if found is None:
        raise RunFailed(f"{dedup.rotation} is gone; run the same command again to make it anew")
    device = device_for(dedup.settings.products)
    one = _tile(dedup, strip, found[0], alive)
    pairs = []
    for other in dedup.strips[strip.number :]:
        tile = one if other.number == strip.number else _tile(dedup, other, found[0], alive)
        pairs.append(near_pairs(one, tile, dedup.settings.threshold, device))
        alive()
    save(place, Pairs.join(pairs))


def collect(dedup: Dedup) -> Pairs:
    """The pairs of all strips. Raises RunFailed when those of one are gone."""
    found = []
    for strip in dedup.strips:
        pairs = load(dedup.strip(strip), Pairs)
        if pairs is None:
            storage.remove(dedup.strip(strip))
            raise RunFailed(f"{dedup.strip(strip)} is gone or damaged; run the same command again to make it anew")
        found.append(pairs)
    return Pairs.join(found)


def to_compare(dedup: Dedup) -> list[ShardRange]:
    """The strips that no earlier start has compared."""
    return [strip for strip in dedup.strips if load(dedup.strip(strip), Pairs) is None]


def _tile(dedup: Dedup, strip: ShardRange, rotation: NDArray[np.float32], alive: Alive) -> Tile:
    parts = []
    for batch in dedup.gallery.batches(strip.start, strip.stop, ["embedding"], strip.rows):
        parts.append(vectors_of(batch.column("embedding")))
        alive()
    stored = np.concatenate(parts)
    lengths = np.linalg.norm(stored.astype(np.float32), axis=1)
    unusable = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(unusable) or len(stored) != strip.rows:
        raise RunFailed(
            f"{dedup.gallery.dataset.location}: the vector of position {strip.start + int(unusable[0])} in "
            f"{dedup.gallery.part} is zero, NaN or infinite; embed it again"
            if len(unusable)
            else f"{dedup.gallery.dataset.location} does not hold the rows that its manifest counts"
        )
    return Tile.of(strip.start, stored, rotation)
