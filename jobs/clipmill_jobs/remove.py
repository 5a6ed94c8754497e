"""clipmill remove: take ids down from what `clipmill run` publishes."""

import click

from clipmill.core.errors import UserError
from clipmill_jobs.command import Job


@click.command("remove", cls=Job, doing="reading the ids")
@click.argument("output")
@click.option("--ids", required=True, metavar="FILE", help="Text file of ids, one per line; local or s3://.")
def command(output: str, ids: str) -> None:
    """Take rows down by their id: a list beside the versions at an OUTPUT of `clipmill run`, which only grows.

    The next run publishes a version without them: no embedding, thumbnail, caption or place in the index is left, and they
    do not come back while the input still holds them. `clipmill prune` removes the versions from before.

    \b
    Example:
      clipmill remove out/nightly --ids takedown.txt
      clipmill run nightly.yaml
      clipmill prune out/nightly --keep 7
    """
    from clipmill import storage
    from clipmill.versions.place import Place
    from clipmill.versions.takedown import add_removed, read_ids

    place = Place.of(output)
    if not storage.is_file(place.pointer):
        raise UserError(f"{output}: no version was published there, so there is nothing to take down")
    try:
        wanted = read_ids(storage.resolve(ids))
    except (FileNotFoundError, UnicodeDecodeError):
        raise UserError(f"--ids {ids}: there is no such text file; write one id a line") from None
    if not wanted:
        raise UserError(f"--ids {ids}: the file holds no id")
    new, total = add_removed(place, wanted)
    click.echo(f"{new:,} ids were added, {total:,} are taken down; the next `clipmill run` publishes without them")


if __name__ == "__main__":
    command()
