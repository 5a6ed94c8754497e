"""clipmill dedup: embeddings to their near-duplicates."""

from typing import Any

import click

from clipmill.core.schemas import DuplicatesManifest
from clipmill.core.settings import ClusterSettings, DedupSettings, build
from clipmill.curate.dedup import finished, make_dedup
from clipmill.versions.pointer import with_current
from clipmill_jobs.command import Job, cluster_options, print_json, progress, split_options


@click.command("dedup", cls=Job)
@click.option("--embeddings", required=True, help="Embeddings dataset to look through; local or s3://.")
@click.option("--output", required=True, help="Folder for pairs.parquet and groups.parquet; local or s3://.")
@click.option(
    "--threshold", type=float, default=0.95, show_default=True, help="Least cosine similarity of two near-duplicates."
)
@click.option("--gallery", type=click.Choice(["images", "captions"]), default="images", show_default=True)
@click.option(
    "--keep",
    default="first",
    show_default=True,
    metavar="RULE",
    help="Which row of a group is kept: first, largest (in pixels), clip-score (the best), or the name of a kept "
    "column, whose greatest value wins.",
)
@cluster_options
@click.option("--overwrite", is_flag=True, help="Replace a finished output, once the new one is complete.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(as_json: bool, **options: Any) -> None:
    """Find all near-duplicates among images or captions, and choose which of each group to keep.

    Every vector is compared with every other by its cosine, so no pair that reaches --threshold is missed and none is
    invented. pairs.parquet holds the pairs, groups.parquet the groups that they connect, with `kept` for the row of each
    group to keep; hand the folder to `clipmill filter --duplicates`. Run it again after an interruption: it continues.

    \b
    Examples:
      clipmill dedup --embeddings embeddings/ --output duplicates/ --threshold 0.96
      clipmill dedup --embeddings s3://bucket/b32/ --output s3://bucket/b32-duplicates/ --keep largest
    """
    cluster_values, values = split_options(options)
    settings = build(DedupSettings, with_current(values))
    manifest, already = dedup_stage(settings, build(ClusterSettings, cluster_values))
    if as_json:
        print_json({"output": settings.output, "already_complete": already, **manifest.model_dump(mode="json")})
        return
    if already:
        click.echo(f"{settings.output} is already complete")
    click.echo(
        f"{manifest.pairs:,} pairs of {manifest.n:,} {manifest.gallery} have a cosine of {manifest.threshold:g} or more\n"
        f"{manifest.rows_in_groups:,} {manifest.gallery} in {manifest.groups:,} groups, the largest of "
        f"{manifest.largest_group:,}; {manifest.rows_dropped:,} can be dropped (--keep {settings.keep})\n"
        f"{settings.output}"
    )


def dedup_stage(settings: DedupSettings, cluster_settings: ClusterSettings) -> tuple[DuplicatesManifest, bool]:
    """What was found, and whether it was there already; progress goes to stderr."""
    from clipmill.engine.cluster import connect
    from clipmill.engine.dedup import comparisons, find_duplicates

    work = make_dedup(settings)
    manifest = finished(work)
    if manifest is not None:
        work.staging.drop_leftovers()
        return manifest, True
    if not settings.overwrite:
        work.staging.refuse_others()
    total = sum(comparisons(work, strip) for strip in work.strips)
    with connect(cluster_settings) as cluster, progress(total, "comparisons", "dedup") as advance:
        return find_duplicates(work, cluster, cluster_settings, advance, advance.found_done), False


if __name__ == "__main__":
    command()
