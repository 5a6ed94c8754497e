"""Reading the vectors of runs of positions, and refusing those that cannot be compared."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import RunFailed
from clipmill.datasets.manifests import vectors_of
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.layout import ShardRange
from clipmill.stage.pieces import Alive, no_heartbeat

_MAGNITUDE, _INFINITE = 0x7FFF, 0x7C00
"""The bits of a float16 but its sign, and those of infinity; above them lie those of NaN."""


def read_strip(gallery: Gallery, strip: ShardRange, alive: Alive = no_heartbeat) -> NDArray[np.float16]:
    """The vectors (rows, d) of a run, as they are stored. Raises RunFailed where one is zero or not finite, or rows lack."""
    parts = []
    for batch in gallery.batches(strip.start, strip.stop, ["embedding"], strip.rows):
        parts.append(vectors_of(batch.column("embedding")))
        alive()
    stored = np.concatenate(parts)
    greatest = (stored.view(np.uint16) & _MAGNITUDE).max(axis=1)
    unusable = np.flatnonzero((greatest == 0) | (greatest >= _INFINITE))
    if len(unusable) or len(stored) != strip.rows:
        raise RunFailed(
            f"{gallery.dataset.location}: the vector of position {strip.start + int(unusable[0])} in "
            f"{gallery.part} is zero, NaN or infinite; embed it again"
            if len(unusable)
            else f"{gallery.dataset.location} does not hold the rows that its manifest counts"
        )
    return stored


def read_positions(
    gallery: Gallery, strips: Iterable[ShardRange], positions: NDArray[np.int64], alive: Alive = no_heartbeat
) -> NDArray[np.float16]:
    """The vectors (p, d) of positions, which are in rising order. Strips that hold none of them are not read, and of the others
    one is in memory at a time."""
    parts = [np.empty((0, gallery.dimension), np.float16)]
    for strip in strips:
        start, stop = np.searchsorted(positions, [strip.start, strip.stop])
        if stop > start:
            parts.append(read_strip(gallery, strip, alive)[positions[start:stop] - strip.start])
    return np.concatenate(parts)
