"""How busy an encoder is whose units come from memory, as in an actor on a GPU; and what overlaps there.

The GPU is stood in for by one that takes 13 ms a batch of 256 pictures and no CPU: the rate of ViT-B-32 on an H100. So what
is measured is all else that an encoder actor does with a unit: unpacking, copying, packing, on this machine's cores.

    python -m benchmarks.encoder_feed [--units 40] [--threads 3]

Prints the busy share of the device, and the timeline of some units in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from clipmill.core.settings import EmbedSettings, ModelSettings
from clipmill.embedding.plan import EmbedPlan, find_source, make_plan
from clipmill.embedding.steps import Decoding, UnitEncoder, read_rows
from clipmill.embedding.unit import tokenise_unit
from clipmill.encoders.device import Meter
from clipmill.encoders.model import ClipModel, Pending, load_model
from clipmill.encoders.tokens import TokenIds
from clipmill.engine.embed_stages import CONCURRENT_UNITS
from clipmill.source.cutting import rows_per_unit
from clipmill.stage.units.commit import one_value, serialise

BATCH, BATCH_SECONDS = 256, 0.013
TEXT_SHARE = 0.2
"""Of the time of a picture that a caption takes, whose tower is narrower and which is short."""


class StandIn:
    """Takes the place of a `ClipModel` on a GPU: batches one after the other in the order of their launch, and no CPU."""

    def __init__(self, size: tuple[int, int], dimension: int = 512) -> None:
        self.identity = SimpleNamespace(dimension=dimension)
        self.preprocessing = SimpleNamespace(size=size, shape=(3, *size))
        self.encoder = SimpleNamespace(images=self.preprocessing)
        self.device = torch.device("cpu")
        self.device_name = ""
        self.precision, self.batches, self.towers = "fp32", SimpleNamespace(size=BATCH), None
        self.spans: list[tuple[int, float, float]] = []
        self._turn, self._pinned, self._free = threading.Lock(), threading.local(), 0.0
        self._vector = np.full(dimension, dimension**-0.5, np.float32)

    def start_images(self, pixels: torch.Tensor, meter: Meter) -> Pending:
        """As `ClipModel.start_images`; each batch is copied to memory that is used again, as it would be pinned."""
        for start in range(0, len(pixels), BATCH):
            batch = pixels[start : start + BATCH]
            if not hasattr(self._pinned, "batch"):
                self._pinned.batch = torch.empty((BATCH, *pixels.shape[1:]), dtype=torch.uint8)
            self._pinned.batch[: len(batch)].copy_(batch)
        return self._computed(len(pixels), 1.0, meter)

    def start_tokens(self, texts: Sequence[TokenIds], meter: Meter) -> Pending:
        """As `ClipModel.start_tokens`."""
        return self._computed(len(texts), TEXT_SHARE, meter)

    def _computed(self, count: int, share: float, meter: Meter) -> Pending:
        seconds = share * BATCH_SECONDS * count / BATCH
        with self._turn:  # as on a stream of a GPU: what is launched while it computes begins when it is free
            began = max(time.perf_counter(), self._free)
            ended = self._free = began + seconds
            self.spans.append((threading.get_ident(), began, ended))
        meter.add(seconds)

        def fetch() -> NDArray[np.float32]:
            time.sleep(max(0.0, ended - time.perf_counter()))
            return np.broadcast_to(self._vector, (count, len(self._vector)))

        return fetch


@dataclass(frozen=True)
class UnitTimes:
    """When a unit was begun, unpacked and packed, and by which thread, in seconds of one clock."""

    thread: int
    begun: float
    unpacked: float
    packed: float


@dataclass(frozen=True)
class Fed:
    """What came of feeding an encoder: images and seconds from the first unit's begin to the last one's end, and in how
    many of them the device computed; ``units`` and the device's ``spans`` for a timeline."""

    images: int
    seconds: float
    computed: float
    cpu: float
    units: list[UnitTimes] = field(default_factory=list)

    @property
    def busy(self) -> float:
        """Share of the time in which the device computed."""
        return self.computed / self.seconds


def decoded_units(size: tuple[int, int], count: int, rows: int | None = None) -> list[pa.Buffer]:
    """Units as decoding hands them over, each of as many rows as in a run (or ``rows``), with noise for pictures."""
    rows = rows or rows_per_unit(*size, 10**9)
    texts = ["two red dogs run along a beach towards the sea", "a cat", "a street at night with umbrellas"]
    table = pa.table(
        {
            "row": pa.array(np.arange(rows)),
            "id": [f"picture-{row}" for row in range(rows)],
            "source": ["pictures.parquet"] * rows,
            "has_image_column": [True] * rows,
            "captions": [[f"{texts[row % 3]} {row}"] for row in range(rows)],
            "image_sha256": pa.array([bytes(32)] * rows, pa.binary(32)),
            "width": pa.array([500] * rows, pa.int32()),
            "height": pa.array([375] * rows, pa.int32()),
            "reason": pa.nulls(rows, pa.string()),
            "detail": pa.nulls(rows, pa.string()),
        }
    )
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 3 * size[0] * size[1]), np.uint8)
    column = pa.Array.from_buffers(pa.binary(pixels.shape[1]), rows, [None, pa.py_buffer(pixels)])
    tokenised = tokenise_unit(table.append_column("pixels", column), load_model(ModelSettings()).tokenizer)
    return [serialise(tokenised)] * count


def feed(model: ClipModel | StandIn, units: Iterator[pa.Buffer], threads: int = CONCURRENT_UNITS) -> Fed:
    """Encodes units by ``threads`` threads, as an actor on a GPU does: unpacked, encoded, and packed to be committed."""
    encoder = UnitEncoder(model, [], thumbnails=False, clock=time.thread_time)  # type: ignore[arg-type]
    lock, counted = threading.Lock(), {"images": 0, "computed": 0.0}
    times: list[UnitTimes] = []

    def encode(payload: pa.Buffer) -> None:
        begun = time.perf_counter()
        decoded = pa.ipc.open_stream(payload).read_all()
        unpacked = time.perf_counter()
        packed = encoder.encode(len(times), decoded, {})
        one_value(serialise(packed))
        told = json.loads(packed.column("statistics")[0].as_py())
        with lock:
            counted["images"] += told["images"]
            counted["computed"] += told["seconds"]["encode_images"] + told["seconds"]["encode_captions"]
            times.append(UnitTimes(threading.get_ident(), begun, unpacked, time.perf_counter()))

    torch.set_num_threads(1)  # as in an actor on a GPU
    cpu = time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        waiting = []
        for payload in units:
            waiting.append(pool.submit(encode, payload))
            if len(waiting) > 2 * threads:
                waiting.pop(0).result()
        for one in waiting:
            one.result()
    seconds = max(one.packed for one in times) - min(one.begun for one in times)
    return Fed(int(counted["images"]), seconds, counted["computed"], time.process_time() - cpu, times)


def from_disk(rows: int, model: StandIn) -> Fed:
    """The same with rendered JPEGs read from Parquet and decoded on this machine's cores meanwhile."""
    from benchmarks.jpegs import write_jpegs

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.parquet")
        write_jpegs(source, rows)
        settings = EmbedSettings(input=str(source), output=f"{folder}/out")
        known = load_model(ModelSettings())
        plan = make_plan(settings, find_source(settings), known.identity, known.preprocessing)
        model.preprocessing.size, model.preprocessing.shape = known.preprocessing.size, known.preprocessing.shape
        return feed(model, _decoded(plan, known))


def _decoded(plan: EmbedPlan, model: ClipModel) -> Iterator[pa.Buffer]:
    decoding = Decoding.of(plan, time.thread_time)
    torch.set_num_threads(1)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        decode: Callable[[tuple[Any, ...]], pa.Buffer] = lambda read: serialise(  # noqa: E731
            decoding.decode(read[1], read[2], model.tokenizer)
        )
        yield from pool.map(decode, read_rows(plan.units, plan.inputs, plan.columns, time.thread_time))


def timeline(fed: Fed, spans: Sequence[tuple[int, float, float]], first: int, count: int) -> list[str]:
    """Some units in milliseconds from the first of them: unpacked, computed by the device, packed."""
    units = sorted(fed.units, key=lambda one: one.begun)[first : first + count]
    zero = units[0].begun
    lines = ["unit   begun  unpacked  device computes        packed"]
    for number, unit in enumerate(units):
        own = [(a, b) for thread, a, b in spans if thread == unit.thread and unit.begun <= a and b <= unit.packed]
        shown = ", ".join(f"{(a - zero) * 1e3:.0f}-{(b - zero) * 1e3:.0f}" for a, b in own)
        times = [(value - zero) * 1e3 for value in (unit.begun, unit.unpacked, unit.packed)]
        lines.append(f"{first + number:4d} {times[0]:7.0f} {times[1]:9.0f}  {shown:21} {times[2]:7.0f}")
    return lines


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--threads", type=int, default=CONCURRENT_UNITS)
    parser.add_argument("--rows", type=int, default=2000, help="pictures read from disk")
    options = parser.parse_args()
    stand_in = StandIn((224, 224))
    fed = feed(stand_in, iter(decoded_units((224, 224), options.units)), options.threads)
    print(
        f"from memory, {options.threads} threads: the device is busy {fed.busy:.1%} of the time, "
        f"{fed.images / fed.seconds:,.0f} images/s, {1e3 * fed.cpu / options.units:.0f} ms of CPU a unit"
    )
    print("\n".join(timeline(fed, stand_in.spans, options.units // 2, 5)))
    if options.rows:
        slow = from_disk(options.rows, StandIn((224, 224)))
        print(f"from disk: the device is busy {slow.busy:.1%}, {slow.images / slow.seconds:,.0f} images/s")


if __name__ == "__main__":
    main()
