"""The whole simulation: stages by the clock, and what of a run's limits is reached first."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np

from clipmill.core.errors import UserError
from clipmill.core.schemas import MAX_FILES, ROWS_PER_SHARD
from clipmill.core.settings import DEFAULT_QUERY_SAMPLE
from clipmill.engine.embed_stages import ALIVE_SECONDS
from clipmill.engine.slices import ASK_SECONDS, MOST_UNITS
from clipmill.estimate.embedding_bytes import ASSUMED, embedding_bytes
from clipmill.estimate.estimate import TUNING_QUERIES
from clipmill.estimate.evaluation import evaluation_seconds
from clipmill.estimate.index_bytes import index_bytes
from clipmill.estimate.machine import Machine
from clipmill.estimate.rates import Rates
from clipmill.estimate.workload import ModelCost, Workload
from clipmill.index.build.cost import MATRIX_FLOPS, build_seconds
from clipmill.index.build.plan import Plan, plan_index
from clipmill.simulation.costs import PROCESS_BYTES, Costs
from clipmill.simulation.embedding import GETS_A_ROW_GROUP, Clocked, Input, clocked, synthetic
from clipmill.simulation.told import Limit, SimulatedStage, Simulation

FILES_A_SHARD = 3
"""Images, captions, rejects."""
_MOST_GROUPS = 50_000_000
NODE_DISK_BYTES = 100e9
"""That a pod may fill, where nothing else is said."""
INDEX_BYTES_A_ROW = 120
"""Of memory that the index may take, where nothing else is said."""


@dataclass(frozen=True)
class Asked:
    """What is simulated: ``machine`` is one of ``nodes``, ``price`` what it costs an hour."""

    workload: Workload
    model: ModelCost
    machine: Machine
    nodes: int
    rates: Rates
    rows_a_file: int
    rows_a_group: int
    memory: int | None = None
    price: float | None = None
    drivers: int = 0


def simulate(asked: Asked, costs: Costs) -> Simulation:
    """A run over so many rows. Raises UserError for what the planner refuses: more files than a dataset may have."""
    count = -(-asked.workload.rows // asked.rows_a_file)
    if count > MAX_FILES:
        raise UserError(
            f"--rows-per-file {asked.rows_a_file:,}: {asked.workload.rows:,} rows are {count:,} files, and one dataset can "
            f"hold {MAX_FILES:,}; give at least {-(-asked.workload.rows // MAX_FILES):,}"
        )
    groups = -(-asked.workload.rows // asked.rows_a_group)
    if groups > _MOST_GROUPS:
        raise UserError(
            f"--rows-per-group {asked.rows_a_group:,}: {groups:,} row groups are more than memory should hold; give at least "
            f"{-(-asked.workload.rows // _MOST_GROUPS):,}"
        )
    planned = synthetic(
        asked.workload,
        asked.model,
        asked.machine,
        asked.nodes,
        asked.rows_a_file,
        asked.rows_a_group,
        asked.drivers,
    )
    clock = clocked(planned, asked.rates, asked.workload, asked.machine, asked.nodes, costs)
    index, notes = _index_plan(asked)
    stages = [_planning(planned, costs), *_embedding(asked, planned, clock, costs)]
    if index is not None:
        stages += _indexing(asked, index, costs)
    stages.append(_evaluating(asked))
    boundless = replace(costs, s3_puts=math.inf, s3_gets=math.inf)
    wanted = clocked(planned, asked.rates, asked.workload, asked.machine, asked.nodes, boundless)
    limits = _limits(asked, planned, clock, wanted, index, costs)
    hours = sum(stage.seconds for stage in stages) / 3600
    return Simulation(
        rows=asked.workload.rows,
        nodes=asked.nodes,
        machine=asked.machine.name,
        files=len(planned.files),
        units=len(planned.units),
        slices=len(planned.slices.slices),
        at_once=planned.slices.at_once,
        encoders=planned.encoders,
        stages=tuple(stages),
        limits=tuple(sorted(limits, key=lambda limit: -limit.share)),
        notes=notes,
        machine_price=None if asked.price is None else asked.price * asked.nodes * hours,
        request_price=sum(stage.gets * costs.get_price + stage.puts * costs.put_price for stage in stages),
    )


def _index_plan(asked: Asked) -> tuple[Plan | None, tuple[str, ...]]:
    memory = asked.memory or max(4 << 30, INDEX_BYTES_A_ROW * asked.workload.rows)
    try:
        plan = plan_index(asked.workload.rows, asked.model.dimension, memory, 0.95)
    except UserError as error:
        return None, (f"no index: {error}",)
    footprint = plan.chosen.footprint
    assert footprint is not None
    a_row = footprint.total / asked.workload.rows
    return plan, (f"index {plan.factory} in {plan.shards:,} shards, {a_row:.0f} bytes a vector in memory",)


def _planning(planned: Input, costs: Costs) -> SimulatedStage:
    files, units = len(planned.files), len(planned.units)
    lists = -(-files // costs.listed)
    waits = (lists + 2 * files / costs.footer_threads) * costs.s3_seconds
    cpu = files * costs.plan_file_seconds + units * costs.plan_unit_seconds
    held = "footers, two requests each" if waits > cpu else "one core"
    return SimulatedStage("plan", waits + cpu, cpu, gets=2 * files, puts=lists, held_by=held)


def _embedding(asked: Asked, planned: Input, clock: Clocked, costs: Costs) -> list[SimulatedStage]:
    work, units = asked.workload, len(planned.units)
    groups = sum(len(file.row_group_rows) for file in planned.files)
    shards = -(-work.rows // ROWS_PER_SHARD)
    _, written, _ = embedding_bytes(work.rows, work.captions, asked.model.dimension, ASSUMED)
    copied = FILES_A_SHARD * shards
    cores = work.rows * asked.rates.cores + units * (costs.driver_unit_seconds + costs.head_unit_seconds)
    embed = SimulatedStage(
        "embed",
        clock.seconds,
        cores,
        gets=GETS_A_ROW_GROUP * groups + units,
        puts=units + copied + units / costs.listed,
        bytes_read=float(work.rows) * work.image_bytes + written,
        bytes_written=2 * written,
        held_by=clock.held_by,
    )
    publish = SimulatedStage(
        "publish",
        copied * costs.copy_seconds / costs.copies_at_once,
        puts=copied + 2 * copied / costs.listed,
        held_by="copies on the server",
    )
    return [embed, publish]


def _indexing(asked: Asked, index: Plan, costs: Costs) -> list[SimulatedStage]:
    n, d, machine = asked.workload.rows, asked.model.dimension, asked.machine
    total = index.chosen.build_seconds or 0.0
    training = min(total, _training_seconds(index, d))
    filled = total - training
    vectors = 2.0 * d * n
    footprint = index.chosen.footprint
    assert footprint is not None
    on_disk = index_bytes(index, n, d, ASSUMED.image[1]).total
    truths = 2.0 * TUNING_QUERIES * n * d / MATRIX_FLOPS
    cores = machine.cores * asked.nodes
    copying = footprint.total / costs.node_bytes_a_second
    train = SimulatedStage(
        "train the index",
        training / machine.cores,
        training,
        bytes_read=2.0 * d * index.training_rows,
        held_by="the cores of one node",
    )
    fill = SimulatedStage(
        "fill the index",
        filled / cores,
        filled,
        gets=vectors / (8 << 20),
        puts=3 * index.shards,
        bytes_read=vectors,
        bytes_written=on_disk,
        held_by="all cores",
    )
    tune = SimulatedStage(
        "tune the index",
        copying + truths / cores,
        truths,
        bytes_read=vectors + footprint.total,
        held_by="a copy of the index on one node" if copying > truths / cores else "exact search of the queries",
    )
    return [train, fill, tune]


def _training_seconds(index: Plan, d: int) -> float:
    """Core seconds of what one node does before any vector is added: as of an index of none."""
    codes, rotated = re.search(r"PQ(\d+)", index.factory), re.search(r"PCAR(\d+)", index.factory)
    if codes is None:
        return 0.0
    return build_seconds(
        0,
        int(rotated[1]) if rotated else d,
        nlist=index.chosen.nlist,
        m=int(codes[1]),
        bits=4,
        training_rows=index.training_rows,
        rotated_from=d if rotated else 0,
    )


def _evaluating(asked: Asked) -> SimulatedStage:
    work = asked.workload
    machine = asked.machine.times(asked.nodes)
    figure = evaluation_seconds(work.rows, work.captions, asked.model.dimension, DEFAULT_QUERY_SAMPLE, machine)
    vectors = 2.0 * asked.model.dimension * (work.rows + work.captions)
    held = f"exact products of {DEFAULT_QUERY_SAMPLE:,} queries each way"
    return SimulatedStage(
        "evaluate",
        figure.value,
        figure.value * machine.cores,
        gets=vectors / (8 << 20),
        bytes_read=vectors,
        held_by=held,
    )


def _limits(
    asked: Asked, planned: Input, clock: Clocked, wanted: Clocked, index: Plan | None, costs: Costs
) -> list[Limit]:
    """What is used of each limit; ``wanted`` is the run as it would go if S3 took all requests."""
    held = 0.0 if index is None or index.chosen.footprint is None else index.chosen.footprint.total
    return [
        *_limits_by_rows(asked.workload.rows, planned, held, costs),
        *_limits_by_nodes(asked.nodes, planned, clock, wanted, costs),
    ]


def _limits_by_rows(rows: int, planned: Input, index_bytes: float, costs: Costs) -> list[Limit]:
    files, units = len(planned.files), len(planned.units)
    largest = int(np.max([one.stop - one.start for one in planned.slices.slices]))
    head = costs.head_base_bytes + files * costs.head_file_bytes + units * costs.head_unit_bytes
    driver = costs.driver_base_bytes + largest * costs.driver_unit_bytes
    at_most = costs.driver_base_bytes + MOST_UNITS * costs.driver_unit_bytes
    of_driver = f"{largest:,} units of the largest slice; of {MOST_UNITS:,}, which are the most, {at_most / 1e9:.1f} GB"
    of_head = "files and units in arrays"
    limits = [
        Limit("memory of the head", head, PROCESS_BYTES, "bytes", "rows", rows, of_head, costs.head_base_bytes),
        Limit("memory of a driver", driver, PROCESS_BYTES, "bytes", "neither", 0, of_driver),
        Limit("source files", files, MAX_FILES, "files", "rows", rows, "ordinals of one dataset"),
    ]
    if index_bytes:
        held = "it holds a copy of the index"
        limits.append(Limit("disk of the node that tunes", index_bytes, NODE_DISK_BYTES, "bytes", "rows", rows, held))
    return limits


def _limits_by_nodes(nodes: int, planned: Input, clock: Clocked, wanted: Clocked, costs: Costs) -> list[Limit]:
    pace = clock.units_a_second
    messages = 2 / ASK_SECONDS + planned.encoders / planned.slices.at_once / ALIVE_SECONDS
    groups = sum(len(file.row_group_rows) for file in planned.files)
    found = (
        ("a core of the head", pace * costs.head_unit_seconds, 1.0, "cores", f"it follows {pace:,.0f} units a second"),
        (
            "messages to one actor",
            messages,
            costs.actor_messages,
            "a second",
            "questions to a driver, and signs of life of its encoders",
        ),
        (
            "writes to the staging prefix",
            wanted.units_a_second,
            costs.s3_puts,
            "a second",
            "a file a unit; S3 splits a prefix that stays busy, and answers 503 until it has",
        ),
        (
            "reads of the input",
            GETS_A_ROW_GROUP * groups / wanted.seconds,
            costs.s3_gets,
            "a second",
            "two a row group",
        ),
    )
    busy = Limit(
        "a core of a driver", clock.busy, 1.0, "cores", "neither", 0, "of the busiest; at 1 its encoders wait for it"
    )
    return [busy, *(Limit(name, used, most, unit, "nodes", nodes, basis) for name, used, most, unit, basis in found)]
