"""One piece of a run that writes texts: some units read, asked and committed, in whichever process an engine has it done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from clipmill import storage
from clipmill.core.takedown import NOTHING, Takedown
from clipmill.source.ahead import one_ahead
from clipmill.source.columns import Columns
from clipmill.source.image_files import load_image_bytes
from clipmill.source.input_file import InputFile
from clipmill.source.reading import read_units, with_sources
from clipmill.source.units import Units
from clipmill.stage.pieces import Alive
from clipmill.stage.units.commit import commit_unit, pack_unit
from clipmill.stage.units.layout import Layout
from clipmill.words.asking import Asking
from clipmill.words.loading import FoundGenerator
from clipmill.words.sums import TextSums

if TYPE_CHECKING:
    from clipmill.words.unit import Each, Writer

BATCH_SIZE = {"cpu": 8, "cuda": 32}
_LOADERS = 4
"""Pictures that are files of their own and are read at a time: longer waited for than computed with."""


@dataclass(frozen=True)
class Job:
    """What every piece of a run needs. ``threads`` prepare pictures, and compute where there is no GPU."""

    found: FoundGenerator
    asking: Asking
    examples: tuple[tuple[bytes, str, str], ...]
    columns: Columns
    layout: Layout[TextSums]
    seed: int
    batch_size: int
    precision: str
    max_image_pixels: int
    allowed: tuple[str, ...]
    question_column: str | None
    device: str
    threads: int
    removed: Takedown = NOTHING


def write_units(alive: Alive, job: Job, units: Units, files: list[InputFile]) -> tuple[list[int], TextSums]:
    """Writes about these units and commits each. Returns their numbers, and what was counted of them all."""
    writer, total = _writer(_Key(job)), TextSums()
    done: list[int] = []
    with _computing(job.threads), _preparing(job) as each:
        tables = one_ahead(read_units(units, files, job.columns))
        for number in units.numbers.tolist():
            began = time.perf_counter()
            raw = with_sources(next(tables), files)
            read = time.perf_counter()
            written = writer.write(number, raw, each)
            written.sums.seconds.update({"read": read - began, "write texts": time.perf_counter() - read})
            written.sums.generated_with[_how(job, writer)] = written.sums.rows
            commit_unit(
                job.layout, number, pack_unit({"texts": written.texts, "rejected": written.rejected}, written.sums)
            )
            total.add(written.sums)
            done.append(number)
            alive()
    return done, total


@contextmanager
def _computing(threads: int) -> Iterator[None]:
    """Products share so many threads for the length of the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _preparing(job: Job) -> Iterator[Each]:
    """Does something for each of many pictures: in threads that compute with one core each, or here where there is one core,
    and no picture to wait for."""
    threads = max(job.threads, _LOADERS) if job.columns.image_kind == "path" else job.threads
    if threads <= 1:
        yield map
        return
    import torch

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.map


def _how(job: Job, writer: Writer) -> str:
    return f"{job.device} {_precision(job)} batch {writer.batch_size}"


def _precision(job: Job) -> str:
    if job.precision != "auto":
        return job.precision
    return "bf16" if job.device == "cuda" else "fp32"


@dataclass(frozen=True, eq=False)
class _Key:
    """Keeps one model in a process, which does many pieces of one run; a run that computes otherwise has another."""

    job: Job

    @property
    def _parts(self) -> tuple[object, ...]:
        job = self.job
        how = (job.device, _precision(job), job.batch_size, job.found.requests_at_once)
        return (job.layout.token, job.layout.staging.uri, *how)

    def __hash__(self) -> int:
        return hash(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other._parts == self._parts


@lru_cache(maxsize=1)
def _writer(key: _Key) -> Writer:
    from clipmill.words.questions import shown
    from clipmill.words.unit import Writer

    job = key.job
    generator = job.found.load(job.device, _precision(job), job.layout.staging / "answers")
    return Writer(
        generator,
        job.asking,
        job.seed,
        job.found.requests_at_once or job.batch_size or BATCH_SIZE[job.device],
        generator.exact,
        job.max_image_pixels,
        partial(load_beside, job.allowed),
        job.question_column,
        shown(iter(job.examples), job.max_image_pixels),
        job.removed,
    )


def forget() -> None:
    """Lets the model of this process go: whoever calls from a notebook wants its memory back."""
    _writer.cache_clear()


@lru_cache(maxsize=256)
def _source_location(source: str) -> storage.Location:
    return storage.resolve(source)


def load_beside(allowed: tuple[str, ...], path: str, source: str) -> bytes:
    """The bytes of a picture that a source file names by its path. Raises Rejected."""
    return load_image_bytes(path, _source_location(source), allowed)
