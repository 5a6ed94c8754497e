"""What a run tells Prometheus through the metrics endpoint of Ray, in which each name gets the prefix ``ray_``.

Only the driver tells it, from what workers report to it: so a counter is not counted twice when a task is tried again,
and a gauge has one value and not one a worker.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ray.util import metrics

from clipmill.core.reporter import Reporter, Silent
from clipmill.embedding.statistics import ENCODING
from clipmill.embedding.steps import BYTES
from clipmill.stage.units.sums import REASON

_LATELY_SECONDS, _LEAST_SECONDS = 60.0, 5.0


@dataclass(frozen=True)
class Metric:
    """One metric as Prometheus knows it; ``help`` says what it counts or measures."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()

    def made(self) -> Any:
        """Of Ray's kind."""
        kind = metrics.Counter if self.kind == "counter" else metrics.Gauge
        return kind(self.name, description=self.help, tag_keys=self.labels)


ROWS = Metric("clipmill_rows_total", "counter", "Input rows that ended as an embedding or a reject.")
REJECTS = Metric("clipmill_rejects_total", "counter", "Rejected images and captions, by reason.", ("reason",))
IMAGES_PER_SECOND = Metric("clipmill_images_per_second", "gauge", "Images encoded a second, lately, by the whole run.")
GPU_BUSY = Metric("clipmill_gpu_busy_ratio", "gauge", "Share of the time in which encoders encode, 0 to 1.")
BYTES_WRITTEN = Metric("clipmill_bytes_written_total", "counter", "Bytes of output written.")
STAGE_PROGRESS = Metric("clipmill_stage_progress_ratio", "gauge", "Done share of a stage, 0 to 1.", ("stage",))
METRICS = (ROWS, REJECTS, IMAGES_PER_SECOND, GPU_BUSY, BYTES_WRITTEN, STAGE_PROGRESS)


class Metered:
    """A reporter that tells Prometheus, too, how far each stage is."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._gauge = STAGE_PROGRESS.made()

    def message(self, stage: str, text: str) -> None:
        """Passes it on."""
        self._reporter.message(stage, text)

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """Passes it on, and sets the metric of the stage to the share that is done."""
        if total is not None:
            self._gauge.set(done / total if total else 1.0, {"stage": stage})
        self._reporter.progress(stage, done, total, unit)


class EmbedMetrics:
    """The metrics of one embed run of ``total`` rows, ``done`` of which an earlier start did, with so many encoders."""

    def __init__(self, total: int, done: int, encoders: int) -> None:
        self._encoders = encoders
        self._lately: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])
        self._total, self._done = total, done
        self._progress = Metered(Silent())
        self._rows, self._rejects, self._bytes = ROWS.made(), REJECTS.made(), BYTES_WRITTEN.made()
        self._images_per_second, self._busy = IMAGES_PER_SECOND.made(), GPU_BUSY.made()

    def note(self, counts: Mapping[str, int], now: float | None = None) -> None:
        """What workers have reported since this was last called: nothing, too, which lets the gauges fall.

        ``now`` is in seconds of the monotonic clock.
        """
        for metric, name in ((self._rows, "rows"), (self._bytes, BYTES)):
            if counts.get(name, 0) > 0:
                metric.inc(counts[name])
        for name, count in counts.items():
            if name.startswith(REASON) and count > 0:
                self._rejects.inc(count, {"reason": name.removeprefix(REASON)})
        self._done += counts.get("rows", 0)
        self._progress.progress("embed", self._done, self._total, "rows")
        images, busy = self._rates(counts, time.monotonic() if now is None else now)
        self._images_per_second.set(images)
        self._busy.set(busy)

    def _rates(self, counts: Mapping[str, int], now: float) -> tuple[float, float]:
        """Images a second over the last minute, and the share of that time in which encoders encoded."""
        self._lately.append((now, counts.get("images", 0), counts.get(ENCODING, 0)))
        while len(self._lately) > 2 and self._lately[1][0] <= now - _LATELY_SECONDS:
            self._lately.popleft()
        seconds = max(_LEAST_SECONDS, now - self._lately[0][0])
        told = list(self._lately)[1:]
        busy = sum(milliseconds for _, _, milliseconds in told) / 1000 / seconds / self._encoders
        return sum(images for _, images, _ in told) / seconds, min(1.0, busy)

    def end(self) -> None:
        """Nothing is encoded any more."""
        self._images_per_second.set(0.0)
        self._busy.set(0.0)
