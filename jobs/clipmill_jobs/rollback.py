"""clipmill rollback: readers see an earlier version again. One small file is written."""

import click

from clipmill_jobs.command import Job


@click.command("rollback", cls=Job, doing="reading the versions")
@click.argument("output")
@click.option("--to", metavar="VERSION", help="Which version. Default: the one before the current one.")
def command(output: str, to: str | None) -> None:
    """Let readers of an OUTPUT of `clipmill run` see an earlier version again.

    Nothing is copied and no version is removed; the next run grows from the version that was chosen. Where the reason lies
    in the input or the configuration, mend it first: the next run would make the same version again.

    \b
    Examples:
      clipmill rollback out/nightly
      clipmill rollback out/nightly --to 20261126T030000Z-0f3a9c21
    """
    from clipmill.versions.place import Place
    from clipmill.versions.rollback import roll_back

    before, now = roll_back(Place.of(output), to)
    click.echo(f"{output} is at version {now} (it was at {before or 'no version'})")


if __name__ == "__main__":
    command()
