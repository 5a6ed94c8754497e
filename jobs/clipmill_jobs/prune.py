"""clipmill prune: remove versions that nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clipmill_jobs.command import Job

if TYPE_CHECKING:
    from clipmill.versions.prune import Pruning


@click.command("prune", cls=Job, doing="reading the versions")
@click.argument("output")
@click.option("--keep", type=click.IntRange(min=1), required=True, metavar="N", help="How many of the newest stay.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and stop.")
@click.option("--wait", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Wait for a run to end.")
def command(output: str, keep: int, dry_run: bool, wait: float) -> None:
    """Remove old versions at an OUTPUT of `clipmill run`, and what killed runs left.

    The newest N stay, and always the one that readers see. Versions from before a `clipmill remove` go whatever their age,
    since they hold what was taken down.

    \b
    Example:
      clipmill prune out/nightly --keep 7
    """
    from clipmill.versions.lock import alone
    from clipmill.versions.place import Place
    from clipmill.versions.pointer import refuse_unpublished
    from clipmill.versions.prune import plan_pruning, prune

    place = Place.of(output)
    refuse_unpublished(place)
    if dry_run:
        _tell(plan_pruning(place, keep), "would remove")
        return
    with alone(place.run_lock, wait), alone(place.pointer_lock, wait) as lease:
        pruning = plan_pruning(place, keep)
        prune(place, pruning, lease)
    _tell(pruning, "removed")


def _tell(pruning: Pruning, what: str) -> None:
    for name, why in pruning.removed:
        click.echo(f"{what} {name}: {why}")
    for name in pruning.halves:
        click.echo(f"{what} {name}: it was never finished")
    if pruning.waiting:
        why = "readers see it, though it is from before something was taken down; `clipmill run` next"
        click.echo(f"{'kept':{len(what)}} {pruning.waiting}: {why}")
    click.echo(f"{len(pruning.kept)} versions {'would be' if what != 'removed' else 'are'} left")


if __name__ == "__main__":
    command()
