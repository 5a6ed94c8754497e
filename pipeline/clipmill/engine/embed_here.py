"""Embedding in this process: worker threads, each of which decodes, encodes and commits whole units."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clipmill.embedding.plan import EmbedPlan
from clipmill.embedding.statistics import Statistics
from clipmill.embedding.steps import Committed, Decoding, Seconds, UnitEncoder, commit, read_rows
from clipmill.engine.here import Here
from clipmill.source.grouping import read_groups
from clipmill.source.units import Units

if TYPE_CHECKING:
    from clipmill.encoders.model import ClipModel

_AHEAD = 1
"""Units read and not begun, for each worker."""
_AHEAD_BYTES = 96 << 20
"""For each worker, of units read and not done, since one may have far more bytes than its file has."""


class EmbedHere:
    """Drives an embed run with ``cores`` threads of one core each: they do more than one thread with all cores."""

    def __init__(self, plan: EmbedPlan, model: ClipModel, cores: int) -> None:
        self._plan = plan
        self._model = model
        self.encoders = cores
        self.pieces = Here(cores)

    @property
    def hardware(self) -> dict[str, Any]:
        """As the manifest describes it."""
        return {**self.pieces.hardware, "gpus": int(self._model.device.type == "cuda"), "encoders": self.encoders}

    def run(self, todo: Units, committed: Committed) -> Statistics:
        """Embeds and commits units. Raises what reading, decoding, encoding or the storage raise, or ``committed``."""
        import torch

        plan, total = self._plan, Statistics()
        decoding = Decoding.of(plan, time.thread_time)
        encoder = UnitEncoder(
            self._model,
            plan.parts.kept,
            thumbnails=plan.parts.thumbnails,
            clock=time.thread_time,
            decodes=decoding.on_gpu,
        )
        tokenizer = self._model.tokenizer if plan.columns.caption_column else None
        threads = torch.get_num_threads()
        torch.set_num_threads(1)

        def embed(unit: int, raw: pa.Table, seconds: Seconds) -> tuple[int, Statistics, dict[str, int]]:
            packed = encoder.encode(unit, decoding.decode(raw, seconds, tokenizer), seconds)
            return unit, *commit(plan.layout, unit, packed)

        def take(done: Future[tuple[int, Statistics, dict[str, int]]]) -> None:
            unit, statistics, counts = done.result()
            total.add(statistics)
            committed([unit], Counter(counts))

        try:
            with ThreadPoolExecutor(self.encoders, thread_name_prefix="embed") as pool:
                waiting: deque[tuple[Future[tuple[int, Statistics, dict[str, int]]], int]] = deque()
                held = 0
                try:
                    for unit, raw, seconds in self._read(todo):
                        waiting.append((pool.submit(embed, unit, raw, seconds), raw.nbytes))
                        held += raw.nbytes
                        del raw
                        while len(waiting) > self.encoders * (1 + _AHEAD) or (held > _AHEAD_BYTES and waiting):
                            future, size = waiting.popleft()
                            take(future)
                            held -= size
                    while waiting:
                        take(waiting.popleft()[0])
                finally:
                    for future, _ in waiting:
                        future.cancel()
        finally:
            torch.set_num_threads(threads)
        total.captions_by_file.clear()
        return total

    def _read(self, todo: Units) -> Iterator[tuple[int, pa.Table, Seconds]]:
        inputs = {file.ordinal: file for file in self._plan.inputs}
        for units in read_groups(todo, self._plan.inputs):
            files = [inputs[ordinal] for ordinal in sorted(set(units.ordinals.tolist()))]
            yield from read_rows(units, files, self._plan.columns, time.thread_time)
