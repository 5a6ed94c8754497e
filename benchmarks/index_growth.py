"""Recall and time of search as vectors and shards grow, drawn and in a table.

For each number of rows an index is planned and trained once, filled in one piece, tuned to the target there, and filled
again in other numbers of shards, which are searched at the same operating point. Queries are texts that were not tuned
on, searched in batches on one thread; times are medians of rounds in which the numbers of shards take turns.

    pip install --editable ".[bench]"
    python -m benchmarks.index_growth --rows 10000 --rows 100000 --rows 1000000 --output docs/index_growth.md
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from matplotlib import pyplot

from benchmarks.index import TUNING, K, Trial, exact_results, machine
from clipmill import storage
from clipmill.core.settings import IndexSettings
from clipmill.index.build.build import make_build
from clipmill.index.build.factory import from_bytes, to_bytes
from clipmill.index.build.fill import fill_shard
from clipmill.index.build.layout import TRAINED_FILE, places
from clipmill.index.build.operate import tune_all
from clipmill.index.build.queries import draw_queries
from clipmill.index.build.sample import sample_vectors
from clipmill.index.build.train import train_index
from clipmill.index.search.open import open_files
from clipmill.index.search.search import ShardedIndex

SHARDS = (1, 4, 32)


@dataclass(frozen=True)
class Point:
    """What a search of ``rows`` vectors in ``shards`` pieces was seen to do; ``same`` is the share of queries whose
    results are those of the index in one piece."""

    rows: int
    shards: int
    factory: str
    parameters: tuple[int, int]
    recall: float
    error: float
    milliseconds: float
    bytes_a_vector: float
    same: float


def grow(rows: int, arguments: argparse.Namespace, folder: Path) -> list[Point]:
    """The points of one number of rows."""
    trial = Trial.make(folder, rows, arguments.queries, arguments.seed, arguments.threads)
    settings = IndexSettings(embeddings=str(folder / "embeddings"), output=str(folder / "index"), memory=100 * rows)
    build = make_build(settings)
    faiss.omp_set_num_threads(arguments.threads)
    sample = sample_vectors(build.gallery, build.plan.training_rows, arguments.seed, dtype=np.float32)
    data = to_bytes(train_index(build.plan.factory, build.gallery.dimension, sample, arguments.seed))
    opened: dict[int, ShardedIndex] = {}
    sizes: dict[int, float] = {}
    for shards in SHARDS:
        place = storage.resolve_output(str(folder / f"shards-{shards}"))
        trained = storage.write_bytes(place / TRAINED_FILE, data.tobytes())
        filled = [fill_shard(build.gallery, part, from_bytes(data), place) for part in places(build.gallery.n, shards)]
        files = [file for one in filled for file in one.files]
        opened[shards], _ = open_files(place, files, trained.sha256, folder / "cache")
        sizes[shards] = sum(one.footprint.total for one in filled) / rows
    queries = draw_queries(build.gallery, TUNING, arguments.seed)
    truth = exact_results(trial.images, queries.all, arguments.threads)
    target = arguments.target_recall
    point = tune_all(opened[1], [queries], truth, [K], target, exact=build.plan.exact)[0][2].point
    faiss.omp_set_num_threads(1)
    times: dict[int, list[float]] = {shards: [] for shards in SHARDS}
    found = {}
    for _ in range(arguments.rounds):
        for shards, index in opened.items():
            began = time.perf_counter()
            found[shards] = index.search(trial.queries, K, nprobe=point.nprobe, rerank=point.rerank)[1]
            times[shards].append(1000 * (time.perf_counter() - began) / len(trial.queries))
    points = []
    for shards in SHARDS:
        each = trial.recalls(found[shards])
        points.append(
            Point(
                rows,
                shards,
                build.plan.factory,
                (point.nprobe, point.rerank),
                float(each.mean()),
                float(each.std(ddof=1) / np.sqrt(len(each))),
                statistics.median(times[shards]),
                sizes[shards],
                float((found[shards] == found[1]).all(axis=1).mean()),
            )
        )
        print(points[-1], file=sys.stderr, flush=True)
    return points


def table(points: list[Point], arguments: argparse.Namespace) -> str:
    text = [
        f"Generated image vectors of 512 dimensions, {arguments.queries} unseen text queries, target recall "
        f"{arguments.target_recall}, one thread, batches. {machine()}. Centroids are counted once a shard here; an open "
        "index shares them.",
        "",
        "| rows | shards | index | nprobe × re-rank | 10-recall@10 (standard error) | ms per query | bytes per vector "
        "| queries answered as in one piece |",
        "|---|---|---|---|---|---|---|---|",
    ]
    text += [
        f"| {point.rows:,} | {point.shards} | {point.factory} | {point.parameters[0]} × {point.parameters[1]} "
        f"| {point.recall:.4f} ({point.error:.4f}) | {point.milliseconds:.3f} | {point.bytes_a_vector:.1f} "
        f"| {point.same:.4f} |"
        for point in points
    ]
    return "\n".join(text)


def draw(points: list[Point], picture: Path) -> None:
    """Recall and time against rows, a line a number of shards."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for shards in SHARDS:
        line = [point for point in points if point.shards == shards]
        rows, label = [point.rows for point in line], f"{shards} shard{'s' if shards > 1 else ''}"
        left.errorbar(
            rows, [point.recall for point in line], [2 * point.error for point in line], label=label, capsize=3
        )
        right.plot(rows, [point.milliseconds for point in line], marker="o", label=label)
    left.set(
        xscale="log", xlabel="rows", ylabel="10-recall@10 of unseen text queries", title="recall, ± 2 standard errors"
    )
    right.set(xscale="log", yscale="log", xlabel="rows", ylabel="ms per query, one thread", title="time of a query")
    left.legend()
    figure.savefig(picture, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", required=True)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of training and filling")
    parser.add_argument("--target-recall", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a file for the table; the plot gets its name and .png")
    arguments = parser.parse_args()
    points = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            points += grow(rows, arguments, Path(folder))
    print(table(points, arguments))
    if arguments.output:
        arguments.output.write_text(table(points, arguments) + "\n")
        draw(points, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
