"""Exact ranking beside the bare matrix products of the same blocks, and its memory, on generated CLIP vectors.

Images come from `benchmarks.clip_vectors`, with five captions each that lie about the image's own. Of both directions a
slice of the queries is ranked against the whole gallery; work grows with the number of queries, so the time of all is
that of the slice times their ratio. Products and ranking take turns in one process: medians of CPU seconds and of wall
time, and the peak memory of the process (vectors on disk are mapped, and count where they are resident).

    OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 python -m benchmarks.retrieval --images 100000 --queries 8192
    OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 python -m benchmarks.retrieval --images 1000000 --queries 4096 --rounds 1
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.clip_vectors import BLOCK_ROWS, ClipVectors
from clipmill.evaluation.retrieval.products import BLOCK, GALLERY_BLOCK, TILE_QUERIES
from clipmill.evaluation.retrieval.ranks import rank_positives
from clipmill.evaluation.vectors import Vectors, blocks, let_go

CAPTIONS_EACH = 5


def write_vectors(folder: Path, images: int, spread: float, seed: int) -> tuple[Vectors, Vectors]:
    """Image and caption vectors in mapped files: a caption is its image's text and ``spread`` times another text."""
    source = ClipVectors(seed)
    mapped = []
    for part, rows in (("images", images), ("captions", images * CAPTIONS_EACH)):
        mapped.append(np.lib.format.open_memmap(folder / f"{part}.npy", "w+", np.float16, (rows, 512)))
    for start in range(0, images, BLOCK_ROWS):
        pictures, texts = source.block(start // BLOCK_ROWS)
        count = min(BLOCK_ROWS, images - start)
        mapped[0][start : start + count] = pictures[:count]
        said = np.empty((BLOCK_ROWS, CAPTIONS_EACH, 512), np.float32)
        for number in range(CAPTIONS_EACH):
            said[:, number] = texts.astype(np.float32) + spread * np.roll(texts, number + 1, axis=0)
        said /= np.linalg.norm(said, axis=-1, keepdims=True)
        mapped[1][start * CAPTIONS_EACH : (start + count) * CAPTIONS_EACH] = said[:count].reshape(-1, 512)
        let_go(mapped[1])
    for array in mapped:
        array.flush()
    del mapped
    rows = np.arange(images)
    read = [np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("images", "captions")]
    return Vectors(rows, read[0]), Vectors(np.repeat(rows, CAPTIONS_EACH), read[1])


def multiply(queries: Vectors, gallery: Vectors, positions: NDArray[np.int64]) -> None:
    """The float32 products that ranking needs, and nothing else."""
    scores = np.empty((TILE_QUERIES, GALLERY_BLOCK), np.float32)
    for part in blocks(len(positions), BLOCK):
        asked = queries.values[positions[part]].astype(np.float32)
        for width in blocks(len(gallery), GALLERY_BLOCK):
            items = gallery.values[width].astype(np.float32)
            let_go(gallery.values)
            for tile in blocks(len(asked), TILE_QUERIES):
                count = tile.stop - tile.start
                found = scores.reshape(-1)[: count * len(items)].reshape(count, len(items))
                np.matmul(asked[tile], items.T, out=found)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=8192, help="of each direction, drawn at random")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spread", type=float, default=0.5, help="how far an image's captions lie apart")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="folder for the vectors; default: the system's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        images, captions = write_vectors(Path(scratch), arguments.images, arguments.spread, arguments.seed)
        print("| direction | queries x gallery | median rank | products, CPU s (wall) | ranking, CPU s (wall) |"
              " CPU ratio | wall ratio | all queries, CPU hours |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|")
        random = np.random.default_rng(arguments.seed)
        for direction, queries, gallery in (("t2i", captions, images), ("i2t", images, captions)):
            chosen = np.sort(random.permutation(len(queries))[: arguments.queries])
            rounds = []
            for _ in range(arguments.rounds):
                bare = timed(lambda: multiply(queries, gallery, chosen))  # noqa: B023
                ranks = []
                ours = timed(lambda: ranks.append(rank_positives(queries, gallery, chosen)))  # noqa: B023
                rounds.append((*bare, *ours))
            bare_cpu, bare_wall, cpu, wall = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"| {direction} | {len(chosen):,} x {len(gallery):,} | {np.median(ranks[0].expected_rank()):,.0f} | "
                f"{bare_cpu:.1f} ({bare_wall:.1f}) | {cpu:.1f} ({wall:.1f}) | {cpu / bare_cpu:.2f} | "
                f"{wall / bare_wall:.2f} | {cpu * len(queries) / len(chosen) / 3600:.1f} |",
                flush=True,
            )
    print(f"\nPeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB.")


if __name__ == "__main__":
    main()
