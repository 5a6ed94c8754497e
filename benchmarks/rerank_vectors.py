"""Where the vectors for re-ranking lie, and what that costs: an index with them as float16, as int8 and without, mapped and in
memory, each built for the same target.

    python -m benchmarks.rerank_vectors --rows 200000 --output docs/rerank_vectors.md

Vectors and queries are those of `benchmarks.clip_vectors`; queries were not tuned on. Times are medians on one thread: of
queries in a batch of all, of one at a time, and of one whose vectors had to be read from the disk.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.clip_vectors import DIMENSION
from benchmarks.index import TUNING, Trial, machine
from clipmill.core.settings import IndexSettings
from clipmill.index.build.build import make_build
from clipmill.index.search.open import open_index
from clipmill.index.search.search import Index
from tests.indexing import run_here

KINDS = ("float16", "int8", "none")
_COLD = 100
_SURELY = 3
"""A search that is not so many times slower has read nothing: another process holds the file in memory."""
_K = 10


def rows(folder: Path, trial: Trial, arguments: argparse.Namespace) -> Iterator[str]:
    """A row of the table for each kind and place."""
    for kind in KINDS:
        settings = IndexSettings.model_validate(
            {
                "embeddings": str(trial.folder / "embeddings"),
                "output": str(folder / kind),
                "target_recall": arguments.target_recall,
                "tuning_queries": TUNING,
                "tune_k": (_K,),
                "rerank_vectors": kind,
                "seed": arguments.seed,
            }
        )
        began = time.perf_counter()
        manifest = run_here(make_build(settings), arguments.threads)
        seconds = time.perf_counter() - began
        for resident in (False, True) if kind != "none" else (False,):
            with multiprocessing.get_context("spawn").Pool(1) as apart:  # what building has mapped would stay in memory
                recall, batch, single, cold = apart.apply(measured, (str(folder / kind), resident, trial))
            held = manifest.memory["total"] + manifest.bytes_of_stored * resident
            of_vectors = manifest.rerank_vectors.recall
            yield (
                f"| {kind}{', in memory' if resident else ''} | {manifest.factory} | {recall:.4f} "
                f"| {of_vectors.value if of_vectors else 1:.4f} | {held / manifest.n:,.0f} "
                f"| {manifest.bytes_of_stored / manifest.n:,.0f} | {batch:.3f} | {single:.3f} | {cold} | {seconds:.0f} |"
            )


def measured(place: str, resident: bool, trial: Trial) -> tuple[float, float, float, str]:
    """Recall on unseen queries, and milliseconds a query: in a batch, alone, and alone with vectors on the disk."""
    index = open_index(place, resident=resident)
    faiss.omp_set_num_threads(1)
    queries = trial.queries
    index.search(queries, _K, alike="captions")
    batches = []
    for _ in range(5):
        began = time.perf_counter()
        found = index.search(queries, _K, alike="captions")[1]
        batches.append(1000 * (time.perf_counter() - began) / len(queries))
    recall = float(trial.recalls(index.rows_at(found)).mean())
    single = statistics.median(_alone(index, queries))
    stored = index.sharded.vectors
    cold = [next(_alone(index, queries[at : at + 1])) for at in range(_COLD) if stored.evict()]
    from_disk = statistics.median(cold) if cold else 0.0
    told = "" if not cold else f"{from_disk:.2f}" if from_disk > _SURELY * single else "were not dropped"
    return recall, statistics.median(batches), single, told


def _alone(index: Index, queries: NDArray[np.float32]) -> Iterator[float]:
    for query in queries:
        began = time.perf_counter()
        index.search(query[None], _K, alike="captions")
        yield 1000 * (time.perf_counter() - began)


_COLUMNS = (
    "vectors",
    "index",
    "unseen 10-recall@10",
    "of exact",
    "resident bytes a vector",
    "on disk for re-ranking",
    "ms in a batch",
    "ms alone",
    "ms alone, from disk",
    "build s",
)


def page(arguments: argparse.Namespace, table: list[str]) -> str:
    """The table, and what it is about."""
    return f"""# Vectors for re-ranking

`python -m benchmarks.rerank_vectors --rows {arguments.rows}`: {arguments.rows:,} vectors of {DIMENSION} dimensions, a target of
{arguments.target_recall:g}, {arguments.queries:,} unseen text queries. {machine()}. Without vectors, codes alone have to find
the target, so a finer kind of index is built. *Of exact* is what scoring with stored vectors leaves of the exact ten, whatever
is searched.

| {" | ".join(_COLUMNS)} |
|{"---|" * len(_COLUMNS)}
{chr(10).join(table)}
"""


def main() -> None:
    """Runs it and prints the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--target-recall", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, help="a file for the page, which is printed as well")
    arguments = parser.parse_args()
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        trial = Trial.make(Path(scratch), arguments.rows, arguments.queries, arguments.seed, arguments.threads)
        for row in rows(Path(scratch), trial, arguments):
            table.append(row)
            print(row, file=sys.stderr, flush=True)
    text = page(arguments, table)
    print(text)
    if arguments.output:
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
