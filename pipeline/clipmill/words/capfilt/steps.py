"""The pieces of a run that filters captions: a threshold is chosen; some units are read, scored and committed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.core.takedown import NOTHING, Takedown
from clipmill.core.text_manifests import ChosenThreshold
from clipmill.source.columns import Columns
from clipmill.source.input_file import InputFile
from clipmill.source.reading import read_units, with_sources
from clipmill.source.units import Units
from clipmill.stage.pieces import Alive
from clipmill.stage.units.commit import commit_unit, pack_unit
from clipmill.stage.units.layout import Layout
from clipmill.words.capfilt.pool import pooled
from clipmill.words.capfilt.sums import CapfiltSums
from clipmill.words.capfilt.threshold import choose_threshold
from clipmill.words.capfilt.unit import Judge
from clipmill.words.scorers.finding import FoundScorer
from clipmill.words.steps import load_beside
from clipmill.words.written import Written

OTHERS = 8
"""Pictures that a text is scored with besides its own: all texts of a picture may fit one that happens to look alike."""


@dataclass(frozen=True)
class Job:
    """What every piece of a run needs. ``threads`` prepare pictures, and compute where there is no GPU. ``threshold`` is None
    while it is not chosen."""

    found: FoundScorer
    written: Written
    columns: Columns
    image_column: str
    schema: pa.Schema
    layout: Layout[CapfiltSums]
    max_image_pixels: int
    allowed: tuple[str, ...]
    device: str
    threads: int
    threshold: float | None = None
    removed: Takedown = NOTHING


def filter_units(alive: Alive, job: Job, units: Units, files: list[InputFile]) -> tuple[list[int], CapfiltSums]:
    """Filters the texts of these units and commits each. Returns their numbers, and what was counted of them all."""
    judge, total = _ready(job), CapfiltSums()
    assert job.threshold is not None
    with ThreadPoolExecutor(max(1, job.threads)) as pool:
        written = _written(job, units)
        for number, raw in zip(units.numbers.tolist(), read_units(units, files, job.columns), strict=True):
            began = time.perf_counter()
            made = judge.judge(with_sources(raw, files), written, job.threshold, job.image_column, job.schema, pool)
            made.sums.seconds.update({"score texts": time.perf_counter() - began})
            made.sums.scored_with[job.device] = made.sums.rows
            commit_unit(
                job.layout, number, pack_unit({"captioned": made.captioned, "dropped": made.dropped}, made.sums)
            )
            total.add(made.sums)
            alive()
    return units.numbers.tolist(), total


def find_threshold(alive: Alive, job: Job, units: Units, files: list[InputFile]) -> ChosenThreshold:
    """Chooses a threshold by the pictures and texts of these units, each text also scored with `OTHERS` of the other
    pictures. Raises UserError as `choose_threshold` does."""
    judge = _ready(job)
    pictures: list[Any] = []
    texts: list[str] = []
    about: list[int] = []
    with ThreadPoolExecutor(max(1, job.threads)) as pool:
        for raw in read_units(units, files, job.columns):
            seen = judge.see(with_sources(raw, files), pool)
            places = {at: len(pictures) + place for place, at in enumerate(seen.prepared)}
            pictures += seen.prepared.values()
            for text in pooled(raw, _of_table(job, raw)):
                if text.has_words and text.at in places:
                    texts.append(str(text.text))
                    about.append(places[text.at])
            alive()
    said = set(zip(about, texts, strict=True))
    own = np.array([(at, place) for place, at in enumerate(about)], np.int64).reshape(-1, 2)
    steps = {len(pictures) * part // (OTHERS + 1) for part in range(1, OTHERS + 1)} - {0}
    far = [((at + step) % len(pictures), place) for at, place in own.tolist() for step in sorted(steps)]
    others = np.array([pair for pair in far if (pair[0], texts[pair[1]]) not in said], np.int64).reshape(-1, 2)
    scores = judge.scorer.score(pictures, texts, np.concatenate([own, others]))
    finite = [part[np.isfinite(part)] for part in (scores[: len(own)], scores[len(own) :])]
    return choose_threshold(finite[0], finite[1], len(pictures))


def _ready(job: Job) -> Judge:
    import torch

    torch.set_num_threads(job.threads)
    return _judge(_Key(job))


def _written(job: Job, units: Units) -> pa.Table:
    """What was written about the rows of some units: neighbours, so that one reading has them all."""
    first, last = units[0].spans[0], units[len(units) - 1].spans[-1]
    return job.written.of_rows(
        (first.ordinal << ORDINAL_SHIFT) + first.start, (last.ordinal << ORDINAL_SHIFT) + last.stop - 1
    )


def _of_table(job: Job, raw: pa.Table) -> pa.Table:
    rows = raw.column("row")
    return job.written.of_rows(rows[0].as_py(), rows[-1].as_py())


@dataclass(frozen=True, eq=False)
class _Key:
    """Keeps one model in a process, which does many pieces of one run."""

    job: Job

    @property
    def _parts(self) -> tuple[object, ...]:
        return (self.job.layout.token, self.job.layout.staging.uri, self.job.device, self.job.found.settings)

    def __hash__(self) -> int:
        return hash(self._parts[:3])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other._parts == self._parts


@lru_cache(maxsize=1)
def _judge(key: _Key) -> Judge:
    job = key.job
    return Judge(job.found.load(job.device), job.max_image_pixels, partial(load_beside, job.allowed), job.removed)


def forget() -> None:
    """Lets the model of this process go."""
    _judge.cache_clear()
