"""clipmill versions: what `clipmill run` has published, and which of it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clipmill.core.errors import UserError
from clipmill_jobs.command import Job, print_json

if TYPE_CHECKING:
    from clipmill.versions.version import Version


@click.command("versions", cls=Job, doing="reading the versions")
@click.argument("output")
@click.option("--json", "as_json", is_flag=True, help="Print the versions as JSON.")
def command(output: str, as_json: bool) -> None:
    """List the versions at an OUTPUT of `clipmill run`, the oldest first; * marks the one that readers see.

    \b
    Example:
      clipmill versions out/nightly
    """
    from clipmill.versions.place import Place
    from clipmill.versions.pointer import read_pointer
    from clipmill.versions.version import all_versions

    place = Place.of(output)
    versions, current = all_versions(place), read_pointer(place).name
    if not versions:
        raise UserError(f"{place.output}: no version was published there; make one with `clipmill run`")
    if as_json:
        print_json(
            {"output": output, "current": current, "versions": [one.model_dump(mode="json") for one in versions]}
        )
        return
    for version in versions:
        click.echo(_line(version, is_current=version.name == current))


def _line(version: Version, *, is_current: bool) -> str:
    counts = version.counts
    mark = "*" if is_current else " "
    return (
        f"{mark} {version.name}  {counts.rows:>12,} rows  {version.rows_encoded:>12,} encoded  {counts.images:>12,} images  "
        f"{counts.captions:>12,} captions  from {version.base or 'nothing'}"
    )


if __name__ == "__main__":
    command()
