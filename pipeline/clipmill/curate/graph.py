"""Finding near-duplicates in pieces of work: exactly, a piece for each strip of vectors; by clusters, four rounds of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Clusters, DuplicatesManifest
from clipmill.core.reporter import Reporter
from clipmill.curate import cluster_steps, steps
from clipmill.curate.cells import Margins
from clipmill.curate.cluster_steps import Plan, Samples
from clipmill.curate.dedup import Dedup
from clipmill.curate.near import Found, Pairs
from clipmill.curate.published import Measured, finish_duplicates, group_pairs
from clipmill.curate.recall import measure_recall
from clipmill.curate.widths import Groups, batches_of, widths_by_pairs
from clipmill.index.build.layout import ShardRange
from clipmill.stage.pieces import Alive, Pieces
from clipmill.stage.stage import Work
from clipmill.stage.staging import Started


@dataclass
class _Progress:
    """Tells a reporter how much is done of all that there is to do."""

    dedup: Dedup
    reporter: Reporter
    total: int
    unit: str
    done: int = field(default=0)

    def add(self, amount: int) -> None:
        self.done += amount
        self.reporter.progress(self.dedup.name, self.done, self.total, self.unit)


def find_duplicates(dedup: Dedup, work: Work, pieces: Pieces, reporter: Reporter) -> DuplicatesManifest:
    """Compares what is left to compare and returns the manifest; `clipmill.stage.stage` publishes it.

    Raises RunFailed when a piece fails for good; what was done is kept, and the same command continues from it.
    """
    reporter.message(dedup.name, f"{dedup.choice.method}: {dedup.choice.why}")
    steps.rotate(dedup)
    find = _by_clusters if dedup.by_clusters else _exactly
    start, found, measured = find(dedup, work, pieces, reporter)
    groups = group_pairs(dedup, found)
    least = _least_cosines(dedup, groups, found.pairs, pieces)
    return finish_duplicates(dedup, start, found.pairs, groups, least, measured, pieces.hardware)


def comparisons(dedup: Dedup, strip: ShardRange) -> int:
    """Pairs of vectors whose first is in a strip."""
    after = dedup.gallery.n - strip.stop
    return strip.rows * (strip.rows - 1) // 2 + strip.rows * after


def _exactly(dedup: Dedup, work: Work, pieces: Pieces, reporter: Reporter) -> tuple[Started, Found, Measured]:
    waiting = steps.to_compare(dedup)
    finished = [strip for strip in dedup.strips if strip not in waiting]
    start = work.start(sum(strip.rows for strip in finished))
    total = sum(comparisons(dedup, strip) for strip in dedup.strips)
    progress = _Progress(dedup, reporter, total, "comparisons")
    progress.add(sum(comparisons(dedup, strip) for strip in finished))
    shared = pieces.share(dedup)
    cores, gpus = pieces.cores_each(len(waiting)), int(dedup.settings.products == "gpu")
    for strip in waiting:
        what = f"comparing rows {strip.start:,} to {strip.stop - 1:,} of {dedup.gallery.dataset.location}"
        pieces.start(
            what,
            _compare,
            shared,
            strip,
            cores=cores,
            gpus=gpus,
            then=lambda strip: progress.add(comparisons(dedup, strip)),
        )
    pieces.wait()
    return start, steps.collect(dedup), Measured()


def _by_clusters(dedup: Dedup, work: Work, pieces: Pieces, reporter: Reporter) -> tuple[Started, Found, Measured]:
    taking = cluster_steps.strips_to_take(dedup)
    drawing, grouping = cluster_steps.strips_to_draw(dedup), cluster_steps.strips_to_group(dedup)
    comparing = cluster_steps.blocks_to_compare(dedup)
    start = work.start(dedup.gallery.n - sum(strip.rows for strip in grouping))
    total = 3 * len(dedup.strips) + dedup.blocks
    progress = _Progress(dedup, reporter, total, "pieces")
    progress.add(total - len(taking) - len(drawing) - len(grouping) - len(comparing))

    def in_pieces(doing: str, function: Callable[..., int], shared: object, left: Sequence[ShardRange | int]) -> None:
        gpus = int(dedup.settings.products == "gpu" and function in (_compare_drawn, _compare_block))
        handle, cores = pieces.share(shared), pieces.cores_each(len(left))
        for piece in left:
            rows = f"rows {piece.start:,} to {piece.stop - 1:,}" if isinstance(piece, ShardRange) else f"block {piece}"
            what = f"{doing} {rows} of {dedup.gallery.dataset.location}"
            pieces.start(what, function, handle, piece, cores=cores, gpus=gpus, then=progress.add)
        pieces.wait()

    samples = cluster_steps.samples_of(dedup)
    in_pieces("drawing rows of", _take, (dedup, samples), taking)
    plan = cluster_steps.train(dedup, samples)
    in_pieces("comparing drawn rows with", _compare_drawn, (dedup, plan), drawing)
    margins = cluster_steps.tune(dedup, plan)
    in_pieces("grouping", _group, (dedup, plan, margins), grouping)
    in_pieces("comparing within", _compare_block, (dedup, plan), comparing)
    found, looks, compared = cluster_steps.collect(dedup)
    truth, rows = cluster_steps.truth_of(dedup, plan)
    recall = measure_recall(truth, rows, found.pairs, found.alike, dedup.gallery.n, dedup.settings.threshold)
    clusters = Clusters(
        cells=len(plan.cells),
        region_margin=margins.region,
        cell_margin=margins.cell,
        looks=looks,
        compared=compared,
    )
    return start, found, Measured(recall, clusters)


def _least_cosines(dedup: Dedup, groups: Groups, pairs: Pairs, pieces: Pieces) -> NDArray[np.float32]:
    """The least cosine of each group (g,): by its pairs where every two rows are one, else by the vectors."""
    count = int(groups.numbers.max(initial=-1)) + 1
    known = widths_by_pairs(groups, pairs)
    batches = batches_of(groups, np.setdiff1d(np.arange(count), known.groups))
    shared, cores = pieces.share((dedup, groups)), pieces.cores_each(len(batches))
    for number, wanted in enumerate(batches):
        what = f"comparing rows of groups {wanted[0]:,} to {wanted[-1]:,} of {dedup.gallery.dataset.location}"
        pieces.start(what, _measure_widths, shared, number, wanted, cores=cores)
    pieces.wait()
    least = np.ones(count, np.float32)
    for width in (known, *steps.collect_widths(dedup, len(batches))):
        least[width.groups] = width.least
    return least


def _compare(alive: Alive, dedup: Dedup, strip: ShardRange) -> ShardRange:
    steps.compare(dedup, strip, alive)
    return strip


def _take(alive: Alive, shared: tuple[Dedup, Samples], strip: ShardRange) -> int:
    cluster_steps.take(*shared, strip, alive)
    return 1


def _compare_drawn(alive: Alive, shared: tuple[Dedup, Plan], strip: ShardRange) -> int:
    cluster_steps.compare_drawn(*shared, strip, alive)
    return 1


def _group(alive: Alive, shared: tuple[Dedup, Plan, Margins], strip: ShardRange) -> int:
    cluster_steps.group(*shared, strip, alive)
    return 1


def _compare_block(alive: Alive, shared: tuple[Dedup, Plan], block: int) -> int:
    cluster_steps.compare_block(*shared, block, alive)
    return 1


def _measure_widths(alive: Alive, shared: tuple[Dedup, Groups], number: int, wanted: NDArray[np.int64]) -> None:
    steps.measure_widths(*shared, number, wanted, alive)
