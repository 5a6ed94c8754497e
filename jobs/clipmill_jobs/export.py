"""clipmill export: embeddings to other people's formats."""

from typing import TYPE_CHECKING, Any

import click

from clipmill.core.errors import UserError
from clipmill.core.reporter import Tally
from clipmill_jobs.command import Group, Job, print_json
from clipmill_jobs.options import PLACE
from clipmill_jobs.reporting import current

if TYPE_CHECKING:
    from clipmill.export.rows import Rows, Written

_EMBEDDINGS = click.option(
    "--embeddings",
    required=True,
    type=PLACE,
    metavar="URI",
    help="Embeddings dataset, or output of `clipmill run`; local or s3://.",
)
_GALLERY = click.option(
    "--gallery",
    type=click.Choice(["images", "captions", "videos", "audio"]),
    default="images",
    show_default=True,
    help="Which part is written.",
)
_OVERWRITE = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the rows of other embeddings that are there, as a new version of the table.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print a JSON summary to stdout.")


@click.group("export", cls=Group)
def command() -> None:
    """Write embeddings as a Lance dataset, or add them to an Iceberg table.

    All rows of a part become visible by one commit, which says what they were written from: the same command again changes
    nothing, and one that was interrupted has written nothing that can be seen.
    """


@click.command("export lance", cls=Job, doing="reading the embeddings' manifest", short_help="A Lance dataset.")
@_EMBEDDINGS
@click.option("--output", required=True, type=PLACE, metavar="URI", help="Folder of the Lance dataset; local or s3://.")
@_GALLERY
@_OVERWRITE
@_JSON
def lance_command(embeddings: str, output: str, gallery: Any, overwrite: bool, as_json: bool) -> None:
    """Write a part of embeddings as a Lance dataset, columns as they are.

    \b
    Example:
      clipmill export lance --embeddings embeddings/ --output photos.lance
    """
    from clipmill.export.lance import write_lance

    rows = _rows(embeddings, gallery)
    made = write_lance(rows, output, overwrite=overwrite, on_read=_progress(rows))
    _tell(rows, made, output, as_json=as_json)


@click.command(
    "export iceberg", cls=Job, doing="reading the embeddings' manifest", short_help="Rows of an Iceberg table."
)
@_EMBEDDINGS
@click.option("--table", required=True, metavar="NAMESPACE.NAME", help="The table; made where it is not there.")
@click.option(
    "--catalog",
    default="default",
    show_default=True,
    help="The catalog, as ~/.pyiceberg.yaml or PYICEBERG_CATALOG__… name it.",
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="KEY=VALUE",
    help="A property of the catalog. May be given several times.",
)
@_GALLERY
@_OVERWRITE
@_JSON
def iceberg_command(
    embeddings: str, table: str, catalog: str, properties: tuple[str, ...], gallery: Any, overwrite: bool, as_json: bool
) -> None:
    """Add a part of embeddings to an Iceberg table by one commit.

    Iceberg has neither half floats nor lists of a fixed length: vectors are written as list<float>, twice the bytes.

    \b
    Example:
      clipmill export iceberg --embeddings embeddings/ --table photos.images --property type=sql \\
                              --property uri=sqlite:///catalog.db --property warehouse=file:///data/warehouse
    """
    from clipmill.export.iceberg import IcebergTable, commit_iceberg

    given = dict(_pair(one) for one in properties)
    rows = _rows(embeddings, gallery)
    made = commit_iceberg(rows, IcebergTable(catalog, table, given), overwrite=overwrite, on_read=_progress(rows))
    _tell(rows, made, table, as_json=as_json)


def _rows(embeddings: str, gallery: Any) -> "Rows":
    from clipmill.export.rows import Rows
    from clipmill.versions.pointer import current as current_of

    return Rows.open(current_of(embeddings, "embeddings"), gallery)


def _progress(rows: "Rows") -> Any:
    return Tally(current(), "export", rows.count, "rows").add


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--property {text}: give KEY=VALUE, such as type=sql")
    return key, value


def _tell(rows: "Rows", made: "Written", place: str, *, as_json: bool) -> None:
    if as_json:
        summary = {"output": place, "gallery": rows.part, "rows": made.rows, "version": made.version}
        print_json({**summary, "already_complete": made.already, "source": rows.key})
        return
    already = " is already complete" if made.already else ""
    click.echo(f"{place}{already}: {made.rows:,} {rows.part} of {rows.dataset.location} as version {made.version}")


command.add_command(lance_command, "lance")
command.add_command(iceberg_command, "iceberg")


if __name__ == "__main__":
    command()
