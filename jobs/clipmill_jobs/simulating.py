"""What `clipmill simulate` does: from its options to stages and limits, printed as a table or JSON."""

from typing import Any

import click

from clipmill.estimate.machine import parse_machine
from clipmill.estimate.models import cost_of_model
from clipmill.estimate.rates import published
from clipmill.report.format import amount_text
from clipmill.simulation.costs import MEASURED
from clipmill.simulation.simulate import Asked, simulate
from clipmill.simulation.told import Limit, Simulation
from clipmill_jobs.command import print_json
from clipmill_jobs.planning import workload_of


def answer(options: dict[str, Any]) -> None:
    """Prints how the run would go, by the options of the command."""
    work = workload_of(options["rows"], options["captions_per_image"], options["image_bytes"], options["image_pixels"])
    model, machine = cost_of_model(options["model"]), parse_machine(options["machine"])
    rates = published(model, work, machine.times(options["nodes"])).likely
    made = simulate(
        Asked(
            workload=work,
            model=model,
            machine=machine,
            nodes=options["nodes"],
            rates=rates,
            rows_a_file=options["rows_per_file"],
            rows_a_group=options["rows_per_group"],
            memory=options["memory"],
            price=options["price"],
            drivers=options["drivers"],
        ),
        MEASURED,
    )
    if options["as_json"]:
        print_json(made.as_dict())
        return
    _print(made, model.name)


def _print(made: Simulation, model: str) -> None:
    click.echo(
        f"{made.rows:,} rows in {made.files:,} files, {model}, {made.nodes:,} × {made.machine}: {made.units:,} units in "
        f"{made.slices:,} slices, {made.at_once:,} at a time, {made.encoders:,} encoders"
    )
    click.echo(
        f"\n{'stage':16} {'time':>10} {'core hours':>11} {'reads':>14} {'writes':>14} {'read':>9} {'written':>9}"
    )
    for stage in made.stages:
        click.echo(
            f"{stage.name:16} {amount_text(stage.seconds, 's'):>10} {stage.core_seconds / 3600:>11,.1f} {stage.gets:>14,.0f} "
            f"{stage.puts:>14,.0f} {amount_text(stage.bytes_read, 'bytes'):>9} "
            f"{amount_text(stage.bytes_written, 'bytes'):>9}  {stage.held_by}"
        )
    money = "" if made.machine_price is None else f"; machines {made.machine_price:,.0f}"
    click.echo(f"{'in all':16} {amount_text(made.seconds, 's'):>10}{money}; requests {made.request_price:,.0f} dollars")
    for note in made.notes:
        click.echo(note)
    click.echo("\nwhat breaks first")
    for limit in made.limits:
        reached = "" if limit.reached_at is None else f"; reached at {limit.reached_at:,.2g} {limit.grows_with}"
        click.echo(
            f"{limit.share:>8.1%}  {limit.name}: {_amount(limit.used, limit)} of {_amount(limit.most, limit)}{reached} "
            f"({limit.basis})"
        )


def _amount(value: float, limit: Limit) -> str:
    return amount_text(value, "bytes") if limit.unit == "bytes" else f"{value:,.3g} {limit.unit}"
