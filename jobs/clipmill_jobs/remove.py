"""clipmill remove: take rows down from what `clipmill run` publishes, by id or by what the picture is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clipmill.core.errors import UserError
from clipmill_jobs.command import Job

if TYPE_CHECKING:
    from clipmill.versions.takedown import Takedown


@click.command("remove", cls=Job, doing="looking for what is to be taken down")
@click.argument("output")
@click.option("--ids", metavar="FILE", help="Text file of ids, one per line; local or s3://.")
@click.option(
    "--content",
    "contents",
    metavar="FILE",
    multiple=True,
    help="A picture, or a text file of sha256 of pictures, one per line: taken down wherever it appears. May be repeated.",
)
@click.option("--allow-unmatched", is_flag=True, help="Record ids and contents too that no version holds.")
def command(output: str, ids: str | None, contents: tuple[str, ...], allow_unmatched: bool) -> None:
    """Take pictures and captions down: a list beside the versions at an OUTPUT of `clipmill run`, which only grows.

    The next run publishes a version without them: no embedding, thumbnail, caption or place in the index is left, and they
    do not come back while the input still holds them. `clipmill prune` removes the versions from before, and `clipmill
    verify` proves that nothing is left.

    An id or a content that no version holds is a mistake, and then nothing is recorded. Ids that clipmill made of file and
    row are refused, since they belong to another picture when the file changes: name the content.

    \b
    Example:
      clipmill remove out/nightly --ids takedown.txt
      clipmill remove out/nightly --content photograph.jpg
      clipmill run nightly.yaml
      clipmill prune out/nightly --keep 7
      clipmill verify out/nightly
    """
    from clipmill.versions.matching import match, refuse_unmatched
    from clipmill.versions.place import Place
    from clipmill.versions.pointer import refuse_unpublished
    from clipmill.versions.takedown import add_removed
    from clipmill.versions.takedown_files import read_contents, read_ids

    place = Place.of(output)
    refuse_unpublished(place)
    wanted = read_ids(ids) if ids is not None else None
    for file in contents:
        wanted = read_contents(file) if wanted is None else wanted | read_contents(file)
    if wanted is None:
        raise UserError("say what is to be taken down: --ids FILE, or --content FILE")
    refuse_unmatched(match(place, wanted), wanted, allow=allow_unmatched)
    new, known = add_removed(place, wanted)
    click.echo(
        f"{_told(wanted)}: {new:,} of them are new, {len(known):,} are taken down in all; the next `clipmill run`"
    )
    click.echo(f"publishes without them, and `clipmill prune {output}` removes the versions from before")


def _told(wanted: Takedown) -> str:
    counts = {"ids": len(wanted.ids), "contents": len(wanted.contents)}
    return " and ".join(f"{count:,} {what}" for what, count in counts.items() if count)


if __name__ == "__main__":
    command()
