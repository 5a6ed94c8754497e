"""clipmill rollback: readers see an earlier version again. One small file is written."""

import click

from clipmill.core.errors import UserError
from clipmill_jobs.command import Job


@click.command("rollback", cls=Job, doing="reading the versions")
@click.argument("output")
@click.option("--to", metavar="VERSION", help="Which version. Default: the one before the current one.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Wait for `clipmill prune` to end."
)
def command(output: str, to: str | None, wait: float) -> None:
    """Let readers of an OUTPUT of `clipmill run` see an earlier version again.

    Nothing is copied and no version is removed; the next run grows from the version that was chosen. Where the reason lies
    in the input or the configuration, mend it first: the next run would make the same version again.

    \b
    Examples:
      clipmill rollback out/nightly
      clipmill rollback out/nightly --to 20261126T030000Z-0f3a9c21
    """
    from clipmill.versions.lock import alone
    from clipmill.versions.place import Place
    from clipmill.versions.rollback import roll_back
    from clipmill.versions.version import folders

    place = Place.of(output)
    if not folders(place):
        raise UserError(f"{output}: no version was published there; make one with `clipmill run`")
    with alone(place.pointer_lock, wait):
        before, now = roll_back(place, to)
    click.echo(f"{output} is at version {now} (it was at {before or 'no version'})")


if __name__ == "__main__":
    command()
