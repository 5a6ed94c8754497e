"""The steps of finding near-duplicates exactly, and the first and last of every method. Each leaves its result in the staging
folder, and does nothing where it is there.

``alive`` is called when something was read or compared, so that those who wait know that the step is moving.
"""

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.curate.dedup import Dedup
from clipmill.curate.near import Found, Pairs, Tile, near_pairs, rotation_of
from clipmill.curate.strips import read_positions, read_strip
from clipmill.curate.widths import Groups, Width, widths_by_vectors
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


def rotation(dedup: Dedup) -> NDArray[np.float32]:
    """What `rotate` found. Raises RunFailed where it is gone."""
    found = load(dedup.rotation, list[NDArray[np.float32]])
    if found is None:
        raise RunFailed(f"{dedup.rotation} is gone; run the same command again to make it anew")
    return found[0]


def compare(dedup: Dedup, strip: ShardRange, alive: Alive = no_heartbeat) -> None:
    """Compares a strip with itself and with all strips after it."""
    place = dedup.strip(strip)
    if load(place, Found) is not None:
        return
    turned = rotation(dedup)
    device = device_for(dedup.settings.products)
    one = Tile.of(strip.start, read_strip(dedup.gallery, strip, alive), turned)
    pairs = []
    for other in dedup.strips[strip.number :]:
        tile = one
        if other.number != strip.number:
            tile = Tile.of(other.start, read_strip(dedup.gallery, other, alive), turned)
        pairs.append(near_pairs(one, tile, dedup.settings.threshold, device))
        alive()
    save(place, Found(Pairs.join(pairs), one.alike))


def collect(dedup: Dedup) -> Found:
    """The pairs of all strips. Raises RunFailed when those of one are gone."""
    found = []
    for strip in dedup.strips:
        pairs = load(dedup.strip(strip), Found)
        if pairs is None:
            storage.remove(dedup.strip(strip))
            raise RunFailed(f"{dedup.strip(strip)} is gone or damaged; run the same command again to make it anew")
        found.append(pairs)
    return Found(Pairs.join([part.pairs for part in found]), Pairs.join([part.alike for part in found]))


def to_compare(dedup: Dedup) -> list[ShardRange]:
    """The strips that no earlier start has compared."""
    return [strip for strip in dedup.strips if load(dedup.strip(strip), Found) is None]


def measure_widths(dedup: Dedup, groups: Groups, number: int, wanted: NDArray[np.int64], alive: Alive) -> None:
    """The least cosine of each group of a batch, by the vectors of their rows."""
    place = dedup.widths(number)
    if load(place, Width) is None:
        inside = np.isin(groups.numbers, wanted)
        stored = read_positions(dedup.gallery, dedup.strips, groups.members[inside], alive)
        save(place, widths_by_vectors(groups.numbers[inside], stored))


def collect_widths(dedup: Dedup, batches: int) -> list[Width]:
    """The least cosines of all batches. Raises RunFailed when those of one are gone."""
    found = []
    for number in range(batches):
        width = load(dedup.widths(number), Width)
        if width is None:
            raise RunFailed(f"{dedup.widths(number)} is gone or damaged; run the same command again to make it anew")
        found.append(width)
    return found
