"""Examples to training batches, in an order that seed and step alone decide.

Units of rows are shuffled, then the rows of a window of neighbouring units: disks read forwards, memory holds one
window of encoded images, and a run that resumes reads nothing of what it has passed.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.train.augment import NOTHING, Augmentation
from clipmill.train.rows import Example, Rows, Source
from clipmill.train.truth import Part
from clipmill.train.word_exchange import exchanged

_WINDOW_UNITS = 16

Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """One worker's part of a step: uint8 (n, 3, height, width), a caption each, negatives of some, and all captions each, with
    the questions that they answer where there are any."""

    pixels: torch.Tensor
    texts: list[str]
    negatives: list[str]
    captions: list[tuple[str, ...]]
    questions: list[tuple[str, ...]]

    @cached_property
    def part(self) -> Part:
        """What the other workers need to know of it."""
        return Part.of(self.texts, self.negatives, self.captions)


@dataclass(frozen=True)
class Sampling:
    """How rows become batches. ``batch_size`` is that of all workers together, ``negative_share`` the share of images that
    bring a negative; ``exchange_words`` makes negatives of captions where the input has none."""

    batch_size: int
    seed: int
    negative_share: float = 0.0
    exchange_words: bool = False
    augmentation: Augmentation = NOTHING


def batches(
    source: Source, sampling: Sampling, first_step: int, pool: ThreadPoolExecutor, rank: int = 0, workers: int = 1
) -> Iterator[Batch]:
    """The parts that worker ``rank`` has of batches without end, from step ``first_step`` on: the same rows, captions and
    alterations whatever step a run began at and however many workers share a batch.

    Every epoch passes each row once, but for a rest smaller than a batch. Rows that cannot be used are left out, so a
    part may be smaller. Raises UserError when the input has fewer than two rows, or nothing of a part can be used.
    """
    size = min(sampling.batch_size, source.rows)
    if size < 2:
        has = "one row" if source.rows == 1 else f"{source.rows} rows"
        raise UserError(f"{source.uri} has {has}; contrastive training needs at least two")
    if size < workers:
        raise UserError(f"a batch of {size} rows cannot be shared by {workers} workers; use fewer --workers")
    steps_an_epoch = source.rows // size
    mine = range(rank * size // workers, (rank + 1) * size // workers)
    step = first_step
    while True:
        epoch, skip = divmod(step, steps_an_epoch)
        for chosen in _epoch(source, size, (sampling.seed, epoch), skip):
            draws = _Draws.of(sampling, size, (sampling.seed, epoch, step % steps_an_epoch))
            picked = pool.map(lambda at, chosen=chosen, draws=draws: draws.pick(at, *chosen[at]), mine)
            found = [one for one in picked if one is not None]
            if len(found) < min(2, len(mine)):
                held_out = " and are not held out by --validation" if source.without else ""
                raise UserError(
                    f"{source.uri}: of {len(mine)} rows of a batch only {len(found)} have a readable image and a caption"
                    f"{held_out}; `clipmill embed` on the same input lists what is wrong with each row"
                )
            yield assemble(found)
            step += 1


@dataclass(frozen=True)
class Picked:
    """An example with the caption that was drawn for this step, and the negative if one was."""

    example: Example
    text: str
    negative: str | None


@dataclass(frozen=True)
class _Draws:
    """What lot decides about each row of a batch, before it is known which rows can be used."""

    sampling: Sampling
    seed: tuple[int, ...]
    caption: NDArray[np.float64]
    negative: NDArray[np.float64]
    asked: NDArray[np.bool_]

    @staticmethod
    def of(sampling: Sampling, size: int, seed: tuple[int, ...]) -> "_Draws":
        random = np.random.default_rng(seed)
        asked = random.permutation(size) < round(sampling.negative_share * size)
        return _Draws(sampling, seed, random.random(size), random.random(size), asked)

    def pick(self, at: int, rows: Rows, row: int) -> Picked | None:
        """The row at a position of the batch; None when it cannot be used."""
        augment = self.sampling.augmentation.drawn(np.random.default_rng((*self.seed, at)))
        example = rows.example(row, augment)
        if example is None:
            return None
        text = example.captions[int(self.caption[at] * len(example.captions))]
        return Picked(example, text, self._negative(at, example, text) if self.asked[at] else None)

    def _negative(self, at: int, example: Example, text: str) -> str | None:
        among: Sequence[str] = example.negatives
        if not among and self.sampling.exchange_words:
            among = [other for other in exchanged(text) if other not in example.captions]
        return among[int(self.negative[at] * len(among))] if among else None


def _epoch(source: Source, size: int, seed: tuple[int, int], skip: int) -> Iterator[list[tuple[Rows, int]]]:
    """(rows, position) of every batch of one epoch after the first ``skip``; windows that only those need are not read."""
    order = np.random.default_rng(seed).permutation(len(source.units))
    loaded: dict[int, list[tuple[Rows, int]]] = {}
    waiting: list[tuple[int, int]] = []
    for window in range(0, len(order), _WINDOW_UNITS):
        rows = sum(source.units[at].rows for at in order[window : window + _WINDOW_UNITS])
        waiting.extend((window, int(at)) for at in np.random.default_rng((*seed, window)).permutation(rows))
        while len(waiting) >= size:
            chosen, waiting = waiting[:size], waiting[size:]
            if skip:
                skip -= 1
                continue
            loaded = {
                needed: loaded.get(needed) or _load(source, order[needed : needed + _WINDOW_UNITS])
                for needed in dict.fromkeys(needed for needed, _ in chosen)
            }
            yield [loaded[needed][at] for needed, at in chosen]


def _load(source: Source, units: NDArray[np.int64]) -> list[tuple[Rows, int]]:
    return [(rows, at) for rows in source.read([source.units[at] for at in sorted(units)]) for at in range(len(rows))]


def ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items, each made in another thread while the one before is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def assemble(found: Sequence[Picked]) -> Batch:
    """A batch of these examples."""
    return Batch(
        pixels=torch.stack([one.example.pixels for one in found]),
        texts=[one.text for one in found],
        negatives=[one.negative for one in found if one.negative is not None],
        captions=[one.example.captions for one in found],
        questions=[one.example.questions for one in found],
    )
