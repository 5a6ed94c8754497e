"""The embed stage by a clock: its input is cut and sliced by what cuts and slices a real one, and drivers take slices as they
become free."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.core.settings import ClusterSettings
from clipmill.engine.cluster import Cluster
from clipmill.engine.encoder_pool import encoder_pool
from clipmill.engine.slices import Slices, cut, shares
from clipmill.estimate.machine import Machine
from clipmill.estimate.rates import Rates
from clipmill.estimate.workload import ModelCost, Workload
from clipmill.simulation.costs import Costs
from clipmill.source.cutting import plan_units, rows_per_unit
from clipmill.source.grouping import read_groups
from clipmill.source.input_file import InputFile
from clipmill.source.units import Units

GETS_A_ROW_GROUP = 2
"""One for its columns that are read, which lie together, and a share of the footer."""


@dataclass(frozen=True)
class Input:
    """A synthetic input as a run plans it: ``files`` of row groups, cut into units and slices for ``encoders``."""

    files: Sequence[InputFile]
    units: Units
    slices: Slices
    encoders: int
    tasks: int
    """Reads of the first slice, a task each."""


@dataclass(frozen=True)
class Clocked:
    """An embed run by the clock. ``seconds`` of all slices; ``busy`` of the busiest driver's core, as a share; ``held_by`` what
    most of the time follows from; ``units_a_second`` of all."""

    seconds: float
    busy: float
    held_by: str
    units_a_second: float


def synthetic(
    workload: Workload,
    model: ModelCost,
    machine: Machine,
    nodes: int,
    rows_a_file: int,
    rows_a_group: int,
    drivers: int,
) -> Input:
    """Files of so many rows in row groups of so many, planned as the files of an input are."""
    files = _files(workload.rows, workload.image_bytes, rows_a_file, rows_a_group)
    units = plan_units(files, rows_per_unit(*model.image_size, workload.rows))
    cluster = Cluster(machine.cores * nodes, nodes, machine.cores, (float(machine.gpus),) * nodes, own=False)
    pool = encoder_pool(cluster, ClusterSettings(device="gpu" if machine.gpus else "cpu"))
    slices = cut(units, files, encoders=pool.size, on_gpus=machine.gpus > 0, drivers=drivers)
    tasks = len(read_groups(units[slices.slices[0]], files))
    return Input(files, units, slices, pool.size, tasks)


def _files(rows: int, image_bytes: int, rows_a_file: int, rows_a_group: int) -> list[InputFile]:
    """Files in the order of their ordinals; all of one size share what is known of their row groups."""

    @cache
    def groups(count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        whole, left = divmod(count, rows_a_group)
        each = (rows_a_group,) * whole + ((left,) if left else ())
        return each, tuple(one * image_bytes for one in each)

    schema, full, last = pa.schema([]), *divmod(rows, rows_a_file)
    sizes = [rows_a_file] * full + ([last] if last else [])
    return [InputFile(at, str(at), 1, "", count, *groups(count), schema) for at, count in enumerate(sizes)]


def clocked(planned: Input, rates: Rates, workload: Workload, machine: Machine, nodes: int, costs: Costs) -> Clocked:
    """Has each driver do slices, one after the other, at the pace of the slowest that it needs: encoders, cores that read and
    decode, the network of its nodes, its own core, or its share of the requests that S3 takes."""
    at_once = planned.slices.at_once
    encoders = shares(planned.encoders, at_once)
    cores, network = machine.cores * nodes / at_once, costs.node_bytes_a_second * nodes / at_once
    rows = _rows_of(planned)
    groups_a_row = sum(len(file.row_group_rows) for file in planned.files) / max(1, int(rows.sum()))
    units = np.array([one.stop - one.start for one in planned.slices.slices])
    free = [(0.0, driver) for driver in range(at_once)]
    held: dict[str, float] = {}
    busy = 0.0
    for slice_rows, slice_units in zip(rows.tolist(), units.tolist(), strict=True):
        began, driver = heapq.heappop(free)
        each = {
            "encoding": slice_rows * rates.encode / encoders[driver],
            "reading and decoding": slice_rows * rates.cores / cores,
            "the network": slice_rows * workload.image_bytes / network,
            "Ray Data's drivers": slice_units * costs.driver_unit_seconds,
            "the writes that S3 takes": slice_units * at_once / costs.s3_puts,
            "the reads that S3 takes": slice_rows * groups_a_row * GETS_A_ROW_GROUP * at_once / costs.s3_gets,
        }
        slowest = max(each, key=lambda name: each[name])
        seconds = costs.start_seconds + each[slowest]
        held[slowest] = held.get(slowest, 0.0) + each[slowest]
        held["starting slices"] = held.get("starting slices", 0.0) + costs.start_seconds
        busy = max(busy, each["Ray Data's drivers"] / seconds)
        heapq.heappush(free, (began + seconds, driver))
    total = max(ended for ended, _ in free)
    return Clocked(total, busy, max(held, key=lambda name: held[name]), len(planned.units) / total)


def _rows_of(planned: Input) -> NDArray[np.int64]:
    until = np.append(0, np.cumsum(planned.units.rows))
    bounds = [(one.start, one.stop) for one in planned.slices.slices]
    return np.array([until[stop] - until[start] for start, stop in bounds], np.int64)
