"""Whether figures of a sample of queries hold for all of them, and what ranking a sample at ten million rows takes.

    python -m benchmarks.sampled_evaluation --rows 200000 --output docs/sampled_evaluation.md

Vectors are those of `benchmarks.clip_vectors`, whose images are in slices of very different sizes, the small ones of which are
harder. All queries of both directions are ranked once; samples of many seeds take their ranks from there, since the rank of a
query does not depend on which others are ranked. Then one piece of work of 100,000 queries among ten million items is done, as
an evaluation does it. With --scratch FOLDER the ranks of all are kept there, and taken from there the next time.
"""

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.clip_vectors import DIMENSION, ClipVectors
from benchmarks.index import machine
from clipmill import storage
from clipmill.datasets.manifests import Embeddings
from clipmill.engine.here import Here
from clipmill.evaluation.directions import Direction
from clipmill.evaluation.retrieval.draw import draw_sample
from clipmill.evaluation.retrieval.parts import InParts
from clipmill.evaluation.retrieval.piece import count_piece, cut_pieces, question_of
from clipmill.evaluation.retrieval.ranks import Answers, Ranks, find_positives
from clipmill.evaluation.retrieval.retrieval import Retrieval, summarise
from clipmill.evaluation.vectors import Vectors
from clipmill.stage.checkpoints import load, save
from clipmill.storage import resolve
from tests.clustered import write_embeddings

DIRECTIONS: tuple[Direction, ...] = ("t2i", "i2t")
SHARES = (0.6, 0.3, 0.08, 0.015, 0.004, 0.0009, 0.0001)
"""Of the rows, in slices."""
HARDER = (0.0, 0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
"""How much of each text's vector in a slice is replaced by another's."""
LARGE_GALLERY, LARGE_SAMPLE = 10_000_000, 100_000
WIDEST, CORES, HOURS = 0.012, 8, 1.0
"""The bars: half of an interval of R@K at 10,000 queries, and the time of a direction."""


@dataclass(frozen=True)
class Data:
    """Images and captions of as many rows, and the slice (n,) of each row."""

    images: Vectors
    captions: Vectors
    slices: NDArray[np.int64]

    def sides(self, direction: Direction) -> tuple[Vectors, Vectors]:
        return (self.captions, self.images) if direction == "t2i" else (self.images, self.captions)


@dataclass(frozen=True)
class Large:
    """CPU seconds of one ``piece`` of a direction's work at ten million rows, and how many ``pieces`` there are."""

    cpu: float
    pieces: float

    @property
    def cpu_hours(self) -> float:
        return self.cpu * self.pieces / 3600


def make(rows: int, dimension: int, seed: int) -> Data:
    """Pairs of the first components of generated ones; captions of small slices have a part of another's."""
    images, texts = (cut(part, dimension) for part in ClipVectors(seed).make(rows, rows))
    slices = np.random.default_rng([seed, 3]).choice(len(SHARES), rows, p=np.array(SHARES) / sum(SHARES))
    mixed = texts.astype(np.float32)
    mixed += np.array(HARDER, np.float32)[slices][:, None] * (np.roll(mixed, 1, axis=0) - mixed)
    return Data(Vectors(np.arange(rows), images), Vectors(np.arange(rows), cut(mixed, dimension)), slices)


def cut(vectors: NDArray[np.floating], dimension: int) -> NDArray[np.float16]:
    """The first components, of unit length."""
    few = vectors[:, :dimension].astype(np.float32)
    return (few / np.linalg.norm(few, axis=1, keepdims=True)).astype(np.float16)


def written(data: Data, place: Path) -> Embeddings:
    """The dataset of these vectors, which is made where it is not there."""
    if not (place / "manifest.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        write_embeddings(place, data.images.values, data.captions.values, files=8)
    return Embeddings.open(str(place))


def rank_all(data: Data, place: Path, threads: int) -> dict[Direction, tuple[Ranks, float]]:
    """The ranks of every query, and the CPU seconds that they took."""
    dataset, found = written(data, place / "embeddings"), {}
    for direction in DIRECTIONS:
        kept = resolve(place / f"ranks-{direction}.npz")
        before = load(kept, tuple[Ranks, float])
        if before is None:
            began = time.process_time()
            rank = InParts(dataset, resolve(place / "parts"), lambda: Here(threads))
            sides = data.sides(direction)
            ranks = rank(direction, *sides, np.arange(len(sides[0])), lambda done: None)
            before = ranks, time.process_time() - began
            save(kept, before)
        found[direction] = before
    return found


def sample(ranks: Ranks, data: Data, direction: Direction, most: int, seed: int, by_slices: bool) -> Retrieval:
    keys = np.random.default_rng([seed, 11]).integers(1 << 63, size=len(ranks)).astype(np.uint64)
    drawn = draw_sample(ranks.positions, keys, most, [data.slices[ranks.rows]] if by_slices else [])
    assert drawn is not None
    few = replace(ranks.take(np.isin(ranks.positions, drawn.positions)), weights=drawn.weights, of=drawn.queries)
    return summarise(direction, few, 0, 0, 1000, seed, drawn)


def coverage(data: Data, ranks: dict[Direction, tuple[Ranks, float]], most: int, seeds: int) -> list[str]:
    """A row of the table for each figure of both directions: how often the figure of all lay in the interval."""
    rows = []
    for direction in DIRECTIONS:
        of_all = summarise(direction, ranks[direction][0], 0, 0, 0, 0)
        truth = {figure.metric: figure for figure in of_all.figures}
        covered: dict[bool, Counter[str]] = {}
        widths: dict[bool, dict[str, list[float]]] = {}
        for by_slices in (False, True):
            covered[by_slices], widths[by_slices] = Counter(), defaultdict(list)
            for seed in range(seeds):
                for figure in sample(ranks[direction][0], data, direction, most, seed, by_slices).figures:
                    assert figure.low is not None
                    assert figure.high is not None
                    value = truth[figure.metric].value
                    covered[by_slices][figure.metric] += figure.low <= value <= figure.high
                    widths[by_slices][figure.metric].append((figure.high - figure.low) / 2)
        for metric, figure in truth.items():
            cells = [
                f"{covered[kind][metric]} of {seeds} | {np.mean(widths[kind][metric]):.4f}" for kind in (False, True)
            ]
            rows.append(f"| {direction} | {figure.title} | {figure.value:.4f} | {' | '.join(cells)} |")
    return rows


def large_piece(place: Path, threads: int, seed: int) -> Large:
    """One piece of 100,000 queries of t2i among 10 million images, as an evaluation does it: it reads its queries and its part
    of the gallery from files, and leaves what it counted in one."""
    data = make(LARGE_SAMPLE, DIMENSION, seed)
    piece = cut_pieces("t2i", LARGE_SAMPLE, LARGE_GALLERY, DIMENSION)[0]
    dataset, folder = written(data, place / "large"), resolve(place / "piece")
    positives = find_positives(data.captions, data.images, Answers.of(data.images), np.arange(piece.last))
    save(piece.queries_in(folder), question_of(data.captions, positives))
    storage.remove(piece.counts_in(folder))
    began = time.process_time()
    count_piece(lambda: None, dataset, folder, piece, threads)
    return Large(time.process_time() - began, LARGE_SAMPLE * LARGE_GALLERY / piece.products)


def page(
    arguments: argparse.Namespace, ranks: dict[Direction, tuple[Ranks, float]], table: list[str], large: Large
) -> str:
    cells = [row.split(" | ") for row in table]
    counts = [int(cell.split(" of ")[0]) for row in cells for cell in (row[3], row[5])]
    shares = [row for row in cells if row[1].startswith("R@")]
    widest = max(float(cell.rstrip(" |")) for row in shares for cell in (row[4], row[6]))
    hours = large.cpu_hours / CORES
    seconds = sum(cpu for _, cpu in ranks.values())
    slices = ", ".join(f"{share:.2%}" for share in SHARES)
    half = 0.98 / arguments.queries**0.5
    bar = "within" if hours <= HOURS else "beyond"
    all_hours = 2 * large.cpu_hours * LARGE_GALLERY / LARGE_SAMPLE
    return f"""# Evaluation by sample

`python -m benchmarks.sampled_evaluation --rows {arguments.rows} --dimension {arguments.dimension}`: {arguments.rows:,}
generated images of {arguments.dimension} dimensions with a caption each, in slices that hold
{slices} of them, the small ones harder.
{machine()}. What is sampled and what its intervals mean: [report](report.md#a-sample-of-the-queries).

## Whether the intervals hold

All queries of both directions were ranked once ({seconds:,.0f} CPU seconds). Samples of {arguments.queries:,} were drawn with
{arguments.seeds} seeds, at one rate and again with more of the small slices. A 95% interval should hold the figure of all
queries for 44 to 50 of 50 seeds. It did for {min(counts)} to {max(counts)}. Intervals of R@K were ±{widest:.4f} or narrower
on average; the bar is ±{WIDEST}, and R@K of a half, which is the least certain, would have ±{half:.4f}.

| direction | figure | of all queries | at one rate: held for | ± | by slices: held for | ± |
|---|---|---|---|---|---|---|
{chr(10).join(table)}

Intervals also cover what another dataset of the same kind would bring, as those of a whole report do, so they hold the figure
of this one a little more often than 95 times in 100; at {arguments.queries:,} of {arguments.rows:,} queries hardly more.

## What it takes at ten million rows

{LARGE_SAMPLE:,} captions among {LARGE_GALLERY:,} images of {DIMENSION} dimensions are {large.pieces:,.0f} pieces of work. One
of them, which reads its queries and its part of the gallery from files and leaves its counts in one, took {large.cpu:.1f} CPU
seconds on {arguments.threads} thread{"s" if arguments.threads > 1 else ""}: {large.cpu_hours:.1f} CPU hours in all, which are
{hours * 60:.0f} minutes of {CORES} cores ({bar} the bar of an hour). Image to text takes as much again. Every query of both
directions would take {all_hours:,.0f} CPU hours.
"""


def main() -> None:
    """Runs it and prints the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=10_000, help="of each sample")
    parser.add_argument(
        "--dimension", type=int, default=DIMENSION, help="components of the vectors that are all ranked"
    )
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the vectors")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--scratch", type=Path, help="a folder that keeps the ranks of all; default: one that does not stay"
    )
    parser.add_argument("--output", type=Path, help="a file for the page, which is printed as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.scratch or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        large = large_piece(place, arguments.threads, arguments.seed)
        data = make(arguments.rows, arguments.dimension, arguments.seed)
        ranks = rank_all(data, place, arguments.threads)
        text = page(arguments, ranks, coverage(data, ranks, arguments.queries, arguments.seeds), large)
    print(text)
    if arguments.output:
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
