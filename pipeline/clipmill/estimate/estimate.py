"""The whole estimate: what embedding and indexing so many rows takes on these machines."""

from dataclasses import dataclass
from typing import Literal

from clipmill.core.settings import DEFAULT_QUERY_SAMPLE
from clipmill.estimate.embedding_bytes import ColumnBytes, embedding_bytes
from clipmill.estimate.evaluation import evaluation_seconds
from clipmill.estimate.figure import Figure, exact
from clipmill.estimate.index_bytes import index_bytes
from clipmill.estimate.machine import Machine
from clipmill.estimate.rates import RateRange
from clipmill.estimate.workload import ModelCost, Workload
from clipmill.index.build.cost import MATRIX_FLOPS
from clipmill.index.build.plan import Plan
from clipmill.source.cutting import MAX_ENCODED_BYTES, rows_per_unit

TUNING_QUERIES = 4000
"""Those that are tuned on and those that confirm, as `IndexSettings` has them; each is compared with every vector."""
INDEX_START_UP_SECONDS = 5.0
INDEX_RANGE = 2.0
_UNITS_AN_ENCODER, _UNITS_A_DECODER = 4, 2


@dataclass(frozen=True)
class Estimate:
    """Every figure of a plan, in the order in which it is told."""

    machine: Machine
    figures: tuple[Figure, ...]

    def figure(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)


def estimate(
    workload: Workload,
    model: ModelCost,
    machine: Machine,
    rates: RateRange,
    columns: ColumnBytes,
    index: Plan,
    price: float | None,
    query_sample: int | Literal["all"] = DEFAULT_QUERY_SAMPLE,
) -> Estimate:
    """``machine`` is all machines together; ``index`` the plan of the index of the images, ``price`` what all machines cost
    an hour, and ``query_sample`` how many queries of each direction an evaluation ranks at most."""
    images = workload.rows * columns.images_a_row
    embed = _times("embed_seconds", workload, machine, rates)
    building = _index_seconds(index, round(images), model.dimension, machine)
    wall = Figure(
        "wall_seconds",
        embed.value + building.value,
        embed.low + building.low,
        embed.high + building.high,
        "s",
        "embedding, then indexing",
    )
    figures = [embed, building, wall]
    if machine.gpus:
        figures.append(_hours("gpu_hours", wall, machine.gpus, f"{machine.gpus} GPUs for all that time"))
        figures.append(_feeding_cores(machine, rates))
    figures.append(_hours("core_hours", wall, machine.cores, f"{machine.cores:g} cores for all that time"))
    figures.append(evaluation_seconds(round(images), workload.captions, model.dimension, query_sample, machine))
    figures += _embedding_figures(workload, model, columns, images)
    figures += _index_figures(index, round(images), model.dimension, columns)
    figures.append(_object_store(workload, model, machine))
    if price is not None:
        basis = f"{price:g} an hour for {machine.name}; storage and requests are not in it"
        figures.append(_hours("cost", wall, price, basis))
    return Estimate(machine, tuple(figures))


def _times(name: str, workload: Workload, machine: Machine, rates: RateRange) -> Figure:
    likely, best, worst = (
        case.wall_seconds(workload.rows, machine) for case in (rates.likely, rates.best, rates.worst)
    )
    return Figure(name, likely, best, worst, "s", rates.likely.basis)


def _index_seconds(index: Plan, n: int, dimension: int, machine: Machine) -> Figure:
    truths = 2.0 * TUNING_QUERIES * n * dimension / MATRIX_FLOPS
    core_seconds = (index.chosen.build_seconds or 0.0) + truths
    value = INDEX_START_UP_SECONDS + core_seconds / machine.cores
    basis = f"{core_seconds:,.0f} core seconds to train, fill and search {TUNING_QUERIES:,} queries exactly"
    return Figure("index_seconds", value, value / INDEX_RANGE, value * INDEX_RANGE, "s", basis)


def _hours(name: str, wall: Figure, number: float, basis: str) -> Figure:
    unit = "" if name == "cost" else "h"
    value, low, high = (seconds / 3600 * number for seconds in (wall.value, wall.low, wall.high))
    return Figure(name, value, low, high, unit, basis)


def _feeding_cores(machine: Machine, rates: RateRange) -> Figure:
    """The more cores, the faster the GPUs and the slower the cores are."""
    value = machine.gpus * rates.likely.cores_for_a_gpu
    low = machine.gpus * rates.best.feed / rates.worst.encode
    high = machine.gpus * rates.worst.feed / rates.best.encode
    enough = (
        "enough"
        if value <= machine.cores
        else f"too few: {machine.name} has {machine.cores:g}, and GPUs will wait, or decode (--decode gpu)"
    )
    return Figure("feeding_cores", value, low, high, "cores", f"so that reading and decoding keep up; {enough}")


def _embedding_figures(workload: Workload, model: ModelCost, columns: ColumnBytes, images: float) -> list[Figure]:
    least, likely, most = embedding_bytes(images, workload.captions, model.dimension, columns)
    basis = f"{model.dimension} × float16 of {images:,.0f} images and {workload.captions:,} captions; {columns.basis}"
    return [
        Figure("embedding_bytes", likely, least, most, "bytes", basis),
        Figure(
            "staging_bytes",
            2 * likely,
            likely,
            2 * most,
            "bytes",
            "the embeddings while they are made: units and shards, and on S3 a copy while it is published",
        ),
    ]


def _index_figures(index: Plan, n: int, dimension: int, columns: ColumnBytes) -> list[Figure]:
    footprint = index.chosen.footprint
    assert footprint is not None
    sizes = [
        index_bytes(index, n, dimension, max(0.0, of_columns - columns.not_indexed)).total
        for of_columns in columns.image
    ]
    return [
        exact("index_memory_bytes", footprint.total, "bytes", f"{index.factory}: what search keeps resident, at most"),
        Figure(
            "index_bytes",
            sizes[1],
            sizes[0],
            sizes[2],
            "bytes",
            "codes, vectors for exact re-ranking and the columns of each row",
        ),
        exact("index_shards", index.shards, "shards", index.why),
    ]


def _object_store(workload: Workload, model: ModelCost, machine: Machine) -> Figure:
    """Units on their way: a few decoded ones that wait for each encoder, one or two in each decoding task."""
    height, width = model.image_size
    rows = min(
        rows_per_unit(height, width, workload.rows),
        workload.rows,
        max(1, MAX_ENCODED_BYTES // max(1, workload.image_bytes)),
    )
    unit = rows * 3 * height * width
    encoders = machine.gpus or min(machine.cores, 8)
    units = encoders * _UNITS_AN_ENCODER + machine.cores * _UNITS_A_DECODER
    basis = (
        f"units of {rows:,} decoded images of {height} × {width}: {_UNITS_AN_ENCODER} for each encoder and "
        f"{_UNITS_A_DECODER} a core"
    )
    return Figure("object_store_bytes", units * unit, units * unit / 2, 2 * units * unit, "bytes", basis)
