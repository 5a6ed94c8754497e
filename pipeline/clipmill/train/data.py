"""The data of a run as all its workers see it: what to learn from, what is held out, and what the two may not share.

What takes long is computed once, by all workers together or by the first, and kept in the staging folder, so that a run that
goes on does not do it again.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa
import torch

from clipmill import storage
from clipmill.core.settings import TrainSettings
from clipmill.storage import Location
from clipmill.train.apart import near_contents
from clipmill.train.inputs import open_source
from clipmill.train.learner import Learner
from clipmill.train.mined import Mined, mine
from clipmill.train.rows import Source
from clipmill.train.towers import Towers
from clipmill.train.workers import Workers

_NEAR = "near.json"
_NEGATIVES = "negatives.arrow"


@dataclass(frozen=True)
class Data:
    """``training`` never gives a picture of ``held_out``; ``near`` of its pictures were left out for being nearly the same as
    one of these."""

    training: Source
    held_out: Source | None
    near: int


def find_data(
    settings: TrainSettings, learner: Learner, folder: Location, workers: Workers, pool: ThreadPoolExecutor
) -> Data:
    """Opens the input and the held-out data. Raises UserError as `open_source` and `mine` do."""
    training = open_source(settings.input, learner.pictures, settings)
    if settings.mines:
        training = replace(training, mined=_mined(settings, training, folder, workers))
    if not settings.validation:
        return Data(training, None, 0)
    held_out = open_source(settings.validation, learner.pictures, settings)
    near: frozenset[bytes] = frozenset()
    if settings.near_duplicates is not None:
        least = settings.near_duplicates

        def compare() -> frozenset[bytes]:
            return near_contents(training, held_out, _encoder(learner), least, pool, workers.rank, workers.count)

        near = _kept_together(compare, folder, workers)
    contents = held_out.contents()
    return Data(replace(training, without=contents | near), held_out, len(near - contents))


def _encoder(learner: Learner) -> Callable[[torch.Tensor], torch.Tensor]:
    assert isinstance(learner, Towers)  # `check` has refused others
    learner.network.eval()

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return learner.encode_pixels(learner.pixels(pixels)).cpu()

    return encode


def _kept_together(compare: Callable[[], frozenset[bytes]], folder: Location, workers: Workers) -> frozenset[bytes]:
    """What all workers found, each its share; the first keeps it."""
    place = folder / _NEAR
    known = json.loads(storage.read_bytes(place)) if workers.rank == 0 and storage.exists(place) else None
    known = workers.tell(known)[0]
    if known is not None:
        return frozenset(map(bytes.fromhex, known))
    found = frozenset().union(*workers.tell(compare()))
    if workers.rank == 0:
        storage.write_bytes(place, json.dumps(sorted(content.hex() for content in found)).encode())
    return found


def _mined(settings: TrainSettings, training: Source, folder: Location, workers: Workers) -> Mined:
    """The first worker searches and keeps what it found; the others wait for it."""
    place = folder / _NEGATIVES
    if workers.rank == 0 and not storage.exists(place):
        table = mine(settings.hard_negatives, training.inputs).table
        with storage.atomic_writer(place) as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)
    workers.tell(None)
    with place.filesystem.open_input_file(place.path) as stream:
        return Mined(pa.ipc.open_file(stream).read_all())
