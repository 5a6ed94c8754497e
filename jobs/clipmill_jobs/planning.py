"""What `clipmill plan` does: from its options to figures, printed as lines or JSON."""

from typing import Any, Literal

import click

from clipmill.core.errors import UserError
from clipmill.core.values import parse_count_or_all
from clipmill.datasets.manifests import Embeddings
from clipmill.estimate.actual import Compared, compared
from clipmill.estimate.embedding_bytes import ASSUMED, measured_columns, thumbnail_bytes
from clipmill.estimate.estimate import Estimate, estimate
from clipmill.estimate.figure import Figure
from clipmill.estimate.machine import Machine, parse_machine
from clipmill.estimate.models import cost_of_manifest, cost_of_model
from clipmill.estimate.rates import calibrated, published
from clipmill.estimate.workload import ModelCost, Workload
from clipmill.index.build.plan import plan_index
from clipmill.report.format import TITLES, amount_text, miss_text
from clipmill.versions.pointer import current
from clipmill_jobs.command import print_json


def answer(options: dict[str, Any]) -> None:
    """Prints what a run will take, by the options of the command, beside what a run took where one is compared."""
    earlier, actual = (
        Embeddings.open(current(options[name], "embeddings")) if options[name] else None
        for name in ("calibrate", "compare")
    )
    model = _model(options["model"], earlier)
    machine = _machine(options["machine"], earlier).times(options["machines"])
    work = _workload(options, earlier, actual)
    price = None if options["price"] is None else options["price"] * options["machines"]
    columns = measured_columns(earlier.manifest, earlier.shards, thumbnail_bytes(earlier)) if earlier else ASSUMED
    index = plan_index(max(1, round(work.rows * columns.images_a_row)), model.dimension, options["memory"], 0.95)
    rates = calibrated(earlier.manifest, model, work, machine) if earlier else published(model, work, machine)
    made = estimate(work, model, machine, rates, columns, index, price, _query_sample(options["query_sample"]))
    beside = compared(made, actual.manifest, actual.shards) if actual else []
    if options["as_json"]:
        print_json(_document(work, model, made, beside))
        return
    _print(work, model, made)
    for one in beside:
        click.echo(
            f"{TITLES[one.name]:26} planned {amount_text(one.planned, one.unit)}, was {amount_text(one.actual, one.unit)}: "
            f"{miss_text(one.difference)}"
        )


def _query_sample(text: str) -> int | Literal["all"]:
    try:
        found: int | Literal["all"] = parse_count_or_all(text)
    except ValueError as error:
        raise UserError(f"--query-sample: {error}") from None
    return found


def _model(name: str | None, earlier: Embeddings | None) -> ModelCost:
    if earlier is None:
        return cost_of_model(name)
    cost = cost_of_manifest(earlier.manifest)
    if name not in (None, cost.name):
        raise UserError(f"--model {name}: the run of --calibrate was made with {cost.name}; leave out one of the two")
    return cost


def _machine(text: str | None, earlier: Embeddings | None) -> Machine:
    if text is not None:
        return parse_machine(text)
    if earlier is None:
        return parse_machine("8")
    hardware = earlier.manifest.hardware
    cores, gpus = float(hardware.get("cpus", 0)), int(hardware.get("gpus", 0))
    return Machine(f"{cores:g} cores" + (f", {gpus} GPUs" if gpus else ""), cores, gpus)


def _workload(options: dict[str, Any], earlier: Embeddings | None, actual: Embeddings | None) -> Workload:
    rows = options["rows"] or (actual.manifest.counts.rows if actual else None)
    if rows is None:
        raise UserError("--rows: say how many rows there are (or --compare with a finished run)")
    captions = options["captions_per_image"]
    if captions is None:
        like = actual or earlier
        captions = like.manifest.counts.captions / max(1, like.manifest.counts.rows) if like else 1.0
    return workload_of(rows, captions, options["image_bytes"], options["image_pixels"])


def workload_of(rows: int, captions_a_row: float, image_bytes: int, image_pixels: str) -> Workload:
    """So many rows of such images, whose size in pixels is given as WIDTHxHEIGHT. Raises UserError for anything else."""
    width, _, height = image_pixels.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) * int(height)):
        raise UserError(f"--image-pixels {image_pixels}: give width and height, such as 500x375")
    return Workload(rows, captions_a_row, image_bytes, int(width) * int(height))


def _document(work: Workload, model: ModelCost, made: Estimate, beside: list[Compared]) -> dict[str, Any]:
    return {
        "rows": work.rows,
        "captions": work.captions,
        "model": model.name,
        "machine": made.machine.name,
        "figures": {figure.name: figure.as_dict() for figure in made.figures},
        "compared": {one.name: one.as_dict() for one in beside},
    }


def _print(work: Workload, model: ModelCost, made: Estimate) -> None:
    click.echo(f"{work.rows:,} rows with {work.captions:,} captions, {model.name}, {made.machine.name}")
    for figure in made.figures:
        click.echo(f"{TITLES[figure.name]:26} {_range(figure)}\n{'':26} {figure.basis}")


def _range(figure: Figure) -> str:
    value, low, high = (amount_text(number, figure.unit) for number in (figure.value, figure.low, figure.high))
    return value if low == high else f"{value} ({low} to {high})"
