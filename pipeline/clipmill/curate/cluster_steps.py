"""The steps of finding near-duplicates by clusters. Each leaves its result in the staging folder, and does nothing where it is
there.

    taken/00000.npz      the rows of a strip that were drawn at random: to train cells on, and to tune and measure with
    cells.npz            cells, and the rows drawn to tune and to measure with
    drawn/00000.npz      all pairs of the drawn rows with the rows of a strip, and how far a row must look to find each
    margins.npz          how far rows look, so that the pairs of the rows to tune with are found
    grouped/00000.*      the rows of a strip, by the blocks of cells that compare them
    blocks/00000.npz     the pairs found in a block
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.curate.cells import Cells, Margins, homes_of, looks_of, train_cells
from clipmill.curate.dedup import Dedup
from clipmill.curate.grouping import BlockRows, Blocks, Grouped, Looks, group_rows, rows_of
from clipmill.curate.margins import Needs, Side, choose_margins, made_needs, needs_of
from clipmill.curate.method import ROWS_A_CELL
from clipmill.curate.near import Comparison, Found, Pairs, Tile, unit
from clipmill.curate.recall import TruePairs
from clipmill.curate.steps import rotation
from clipmill.curate.strips import read_strip
from clipmill.index.build.layout import ShardRange
from clipmill.index.search.products import device_for
from clipmill.stage.checkpoints import load, save
from clipmill.stage.pieces import Alive, no_heartbeat
from clipmill.storage import Location

TUNING_ROWS, MEASURING_ROWS = 1024, 3072
"""Rows that are drawn and compared with all others: of a million rows, less than a hundredth of what exact comparison takes."""
_MOST_TRAINING_ROWS = 262_144
"""Of the sample that cells are trained on: half a gigabyte at 512 dimensions."""
_MADE_ROWS = 4096
"""Rows of that sample from which pairs are made to tune with, beside those that the drawn rows have."""
_SEED = 0
_READERS = 16
"""Strips read at a time on S3."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Samples:
    """Positions drawn at random, int64 in rising order: of rows to train cells on, and of rows to tune and measure with."""

    training: NDArray[np.int64]
    drawn: NDArray[np.int64]


@dataclass(frozen=True)
class Taken:
    """The vectors (rows, d) of the samples that are in a strip."""

    training: NDArray[np.float16]
    drawn: NDArray[np.float16]


@dataclass(frozen=True)
class Drawn:
    """``vectors`` (q, d) of rows drawn at random and their ``positions`` (q,); ``tunes`` bool (q,) says which are to tune with,
    the others measure."""

    positions: NDArray[np.int64]
    vectors: NDArray[np.float16]
    tunes: NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """What is known before any strip is read: cells, the blocks in which they are compared, rows drawn, and what finding pairs
    takes that were made of the sample."""

    cells: Cells
    blocks: Blocks
    drawn: Drawn
    made: Needs


@dataclass(frozen=True)
class DrawnPairs:
    """All pairs of the drawn rows with the rows of a strip; ``needs`` are those of the rows to tune with alone."""

    truth: TruePairs
    needs: Needs


@dataclass(frozen=True)
class BlockPairs:
    """The pairs found in a block, and how many pairs of rows were compared for them."""

    found: Found
    compared: int


def samples_of(dedup: Dedup) -> Samples:
    """Draws the rows that are looked at before others. Each row of the gallery is as likely as any other."""
    n = dedup.gallery.n
    sizes = (min(ROWS_A_CELL * dedup.cells, _MOST_TRAINING_ROWS), TUNING_ROWS + MEASURING_ROWS)
    rngs = (np.random.default_rng([_SEED, number]) for number in range(len(sizes)))
    chosen = (rng.choice(n, min(n, size), replace=False) for rng, size in zip(rngs, sizes, strict=True))
    return Samples(*(np.sort(positions) for positions in chosen))


def take(dedup: Dedup, samples: Samples, strip: ShardRange, alive: Alive = no_heartbeat) -> None:
    """Takes the rows of a strip that are of the samples."""
    if load(dedup.taken(strip), Taken) is None:
        stored = read_strip(dedup.gallery, strip, alive)
        sides = (samples.training, samples.drawn)
        save(dedup.taken(strip), Taken(*(stored[_inside(positions, strip)] for positions in sides)))


def train(dedup: Dedup, samples: Samples) -> Plan:
    """Finds the cells, once the rows of the samples are taken from all strips."""
    found = load(dedup.plan, Plan)
    if found is not None:
        return found
    taken = [_there(dedup.taken(strip), Taken) for strip in dedup.strips]
    sample = unit(np.concatenate([part.training for part in taken]))
    cells = train_cells(sample, dedup.cells, _SEED)
    blocks = Blocks.of(cells, homes_of(cells, sample).cell, dedup.blocks)
    count = len(samples.drawn)
    tunes = np.zeros(count, bool)
    tuning = count * TUNING_ROWS // (TUNING_ROWS + MEASURING_ROWS)
    tunes[np.random.default_rng([_SEED, 2]).permutation(count)[:tuning]] = True
    drawn = Drawn(samples.drawn, np.concatenate([part.drawn for part in taken]), tunes)
    made = made_needs(cells, sample[:: -(-len(sample) // _MADE_ROWS)], dedup.settings.threshold, _SEED)
    plan = Plan(cells, blocks, drawn, made)
    save(dedup.plan, plan)
    return plan


def compare_drawn(dedup: Dedup, plan: Plan, strip: ShardRange, alive: Alive = no_heartbeat) -> None:
    """Compares the drawn rows with all rows of a strip, exactly."""
    if load(dedup.drawn(strip), DrawnPairs) is not None:
        return
    drawn, device, turned = plan.drawn, device_for(dedup.settings.products), rotation(dedup)
    here = Tile.of(0, read_strip(dedup.gallery, strip, alive), turned)
    asked = Tile.of(0, drawn.vectors, turned)
    found = Pairs.join(
        Comparison.of(asked, here, dedup.settings.threshold, device).across(
            np.arange(len(drawn.positions)), here.active
        )
    )
    others = drawn.positions[found.first] != found.second + strip.start
    row, other, cosine = found.first[others], found.second[others], found.cosine[others]
    tuning = drawn.tunes[row]
    sides = Side.of(plan.cells, asked.vectors, row[tuning]), Side.of(plan.cells, here.vectors, other[tuning])
    needs = needs_of(plan.cells, *sides)
    save(dedup.drawn(strip), DrawnPairs(TruePairs(drawn.positions[row], other + strip.start, cosine), needs))


def tune(dedup: Dedup, plan: Plan) -> Margins:
    """Chooses how far rows look, once the drawn rows are compared with all strips."""
    found = load(dedup.margins, Margins)
    if found is None:
        natural = Needs.join([_there(dedup.drawn(strip), DrawnPairs).needs for strip in dedup.strips])
        rows = unit(plan.drawn.vectors)
        homes = homes_of(plan.cells, rows)

        def looks(margins: Margins) -> float:
            return len(looks_of(plan.cells, rows, homes, margins)[0])

        found = choose_margins(natural, plan.made, dedup.settings.threshold, cost=looks)
        save(dedup.margins, found)
    return found


def group(dedup: Dedup, plan: Plan, margins: Margins, strip: ShardRange, alive: Alive = no_heartbeat) -> None:
    """Writes the rows of a strip by the blocks that compare them."""
    if load(dedup.grouped(strip), Grouped) is not None:
        return
    stored = read_strip(dedup.gallery, strip, alive)
    tile = Tile.of(strip.start, stored, rotation(dedup))
    homes = homes_of(plan.cells, tile.vectors)
    looks = Looks(homes.cell, *looks_of(plan.cells, tile.vectors, homes, margins))
    grouped, parts = group_rows(stored, strip.start, tile.active, tile.alike, looks, plan.blocks)
    with storage.atomic_writer(dedup.vectors(strip.number)) as stream:
        for part in parts:
            stream.write(part)
            alive()
    save(dedup.grouped(strip), grouped)


def compare_block(dedup: Dedup, plan: Plan, block: int, alive: Alive = no_heartbeat) -> None:
    """Compares the rows of the cells of a block with each other, and with those that look into them."""
    if load(dedup.block(block), BlockPairs) is not None:
        return
    rows = _read_block(dedup, block, alive)
    tile = Tile.of(0, rows.vectors, rotation(dedup))
    comparison = Comparison.of(tile, tile, dedup.settings.threshold, device_for(dedup.settings.products))
    found, compared = [tile.alike], 0
    for members, visitors in _cells_of(rows, tile.active, range(*plan.blocks.starts[block : block + 2].tolist())):
        found += comparison.within(members)
        found += comparison.across(members, visitors)
        compared += len(members) * (len(members) - 1) // 2 + len(members) * len(visitors)
        alive()
    pairs, alike = (part.of_positions(rows.positions) for part in (Pairs.join(found), tile.alike))
    save(dedup.block(block), BlockPairs(Found(pairs, alike), compared))


def strips_to_take(dedup: Dedup) -> list[ShardRange]:
    """The strips from which no earlier start has taken the rows of the samples; none once cells are trained on them."""
    if load(dedup.plan, Plan) is not None:
        return []
    return [strip for strip in dedup.strips if load(dedup.taken(strip), Taken) is None]


def strips_to_draw(dedup: Dedup) -> list[ShardRange]:
    """The strips with which no earlier start has compared the drawn rows."""
    return [strip for strip in dedup.strips if load(dedup.drawn(strip), DrawnPairs) is None]


def strips_to_group(dedup: Dedup) -> list[ShardRange]:
    """The strips whose rows no earlier start has written by blocks."""
    return [strip for strip in dedup.strips if load(dedup.grouped(strip), Grouped) is None]


def blocks_to_compare(dedup: Dedup) -> list[int]:
    """The blocks that no earlier start has compared."""
    return [block for block in range(dedup.blocks) if load(dedup.block(block), BlockPairs) is None]


def collect(dedup: Dedup) -> tuple[Found, float, float]:
    """The pairs of all blocks, into how many cells a row looks, and with how many others it is compared. Raises RunFailed when
    the result of a piece is gone."""
    blocks = [_there(dedup.block(number), BlockPairs) for number in range(dedup.blocks)]
    strips = [_there(dedup.grouped(strip), Grouped) for strip in dedup.strips]
    alike = Pairs.join([*(block.found.alike for block in blocks), *(strip.alike for strip in strips)]).distinct()
    pairs = Pairs.join([*(block.found.pairs for block in blocks), *(strip.alike for strip in strips)]).distinct()
    looks = 1 + sum(int(strip.looks[-1]) for strip in strips) / dedup.gallery.n
    return Found(pairs, alike), looks, 2 * sum(block.compared for block in blocks) / dedup.gallery.n


def truth_of(dedup: Dedup, plan: Plan) -> tuple[TruePairs, int]:
    """All pairs of the rows that were drawn to measure with, and how many rows these are."""
    truth = TruePairs.join([_there(dedup.drawn(strip), DrawnPairs).truth for strip in dedup.strips])
    measures = np.isin(truth.row, plan.drawn.positions[~plan.drawn.tunes])
    return TruePairs(truth.row[measures], truth.other[measures], truth.cosine[measures]), int((~plan.drawn.tunes).sum())


def _inside(positions: NDArray[np.int64], strip: ShardRange) -> NDArray[np.int64]:
    """Those of some positions, in rising order, that are in a strip, counted from its start."""
    start, stop = np.searchsorted(positions, [strip.start, strip.stop])
    return positions[start:stop] - strip.start


def _read_block(dedup: Dedup, block: int, alive: Alive) -> BlockRows:
    """The rows of a block, from all strips: of each a short run, which on S3 takes as long as the wait for it."""

    def read(strip: ShardRange) -> tuple[bytes, int]:
        begin, entries, looks = _there(dedup.grouped(strip), Grouped).range_of(block, dedup.gallery.dimension)
        try:
            data = storage.read_range(dedup.vectors(strip.number), begin, entries + looks)
        except FileNotFoundError:
            data = b""
        if len(data) != entries + looks:
            raise _gone(dedup.grouped(strip))
        alive()
        return data, entries

    threads = 1 if dedup.staging.folder.is_local else _READERS
    with ThreadPoolExecutor(threads, thread_name_prefix="strips") as pool:
        return rows_of(list(pool.map(read, dedup.strips)), dedup.gallery.dimension)


def _cells_of(
    rows: BlockRows, active: NDArray[np.int64], cells: range
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each cell the active rows that are at home in it, in order, and those that look into it from elsewhere."""
    is_active = np.zeros(len(rows.positions), bool)
    is_active[active] = True
    by_home = active[np.argsort(rows.homes[active], kind="stable")]
    looking = is_active[rows.look_rows]
    look_rows, look_cells = rows.look_rows[looking], rows.look_cells[looking]
    order = np.argsort(look_cells, kind="stable")
    look_rows, look_cells, homes = look_rows[order], look_cells[order], rows.homes[by_home]
    for cell in cells:
        start, stop = np.searchsorted(homes, [cell, cell + 1])
        first, last = np.searchsorted(look_cells, [cell, cell + 1])
        if stop > start:
            yield by_home[start:stop], look_rows[first:last]


def _there(place: Location, kind: type[Result]) -> Result:
    """What a piece left. Raises RunFailed where it is gone or damaged."""
    found = load(place, kind)
    if found is None:
        raise _gone(place)
    return found


def _gone(place: Location) -> RunFailed:
    storage.remove(place)
    return RunFailed(f"{place} is gone or damaged; run the same command again to make it anew")
