"""clipmill cache: what is kept on this machine of what lies on S3."""

import time
from pathlib import Path

import click

from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.errors import UserError
from clipmill.core.values import parse_bytes
from clipmill_jobs.command import Group, Job, print_json

_cache = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=DEFAULT_CACHE,
    show_default=True,
    help="Folder of local copies of what lies on S3.",
)


@click.group("cache", cls=Group)
def command() -> None:
    """List or delete local copies of what lies on S3.

    Searching an index on S3 works from a copy. Copies that were used longest ago go where all take more than
    `--cache-limit` of the command that made them, 20 GiB unless CLIPMILL_CACHE_LIMIT says otherwise; `clipmill prune`
    deletes those of the versions that it removes, on the machine where it runs.
    """


@click.command("cache list", cls=Job, doing="looking into the cache")
@_cache
@click.option("--json", "as_json", is_flag=True, help="Print the copies as JSON.")
def list_copies(cache: Path, as_json: bool) -> None:
    """List the copies, what was used longest ago first.

    \b
    Example:
      clipmill cache list
    """
    from clipmill.storage.copies import copies_in

    copies = copies_in(cache)
    if as_json:
        print_json([{"file": str(one.path), "bytes": one.bytes, "used": one.used} for one in copies])
        return
    for one in copies:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used))
        click.echo(f"{one.bytes:>16,} bytes  last used {used}  {one.path.name}")
    click.echo(f"{len(copies):,} copies, {sum(one.bytes for one in copies):,} bytes, in {cache}")


@click.command("cache purge", cls=Job, doing="looking into the cache")
@_cache
@click.option("--to", metavar="SIZE", default="0", show_default=True, help="Keep so much of what was used last: 5GiB.")
def purge(cache: Path, to: str) -> None:
    """Delete the copies, all of them or those that were used longest ago.

    \b
    Examples:
      clipmill cache purge
      clipmill cache purge --to 5GiB
    """
    from clipmill.storage.copies import shrink

    try:
        most = parse_bytes(to)
    except ValueError as error:
        raise UserError(f"--to: {error}") from None
    gone = shrink(cache, most, kept_seconds=0.0)
    click.echo(f"{len(gone):,} copies were deleted, {sum(one.bytes for one in gone):,} bytes")


command.add_command(list_copies, "list")
command.add_command(purge, "purge")

if __name__ == "__main__":
    command()
