"""clipmill dedup: embeddings to their near-duplicates."""

import click

from clipmill.core.manifests import DuplicatesManifest
from clipmill.core.near_pairs import short
from clipmill.core.settings import ClusterSettings, DedupSettings
from clipmill.runs.stages import dedup_stage
from clipmill_jobs.command import Job, of_current, print_json
from clipmill_jobs.options import cluster_options, settings_options
from clipmill_jobs.reporting import current


@click.command("dedup", cls=Job, doing="reading the embeddings' manifest")
@settings_options(
    settings=DedupSettings, help_of={"output": "Folder for pairs.parquet and groups.parquet; local or s3://."}
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@cluster_options
def command(settings: DedupSettings, cluster: ClusterSettings, as_json: bool) -> None:
    """Find near-duplicates among images or captions, and choose which of each group to keep.

    Up to 100,000 vectors are each compared with every other by their cosine, so no pair that reaches --threshold is missed.
    More are compared within clusters: that finds nearly all pairs, invents none, and measures on rows drawn at random what
    share it found. pairs.parquet holds the pairs, groups.parquet the groups that they make, with `kept` for the row of each
    group to keep; hand the folder to `clipmill filter --duplicates`. Run it again after an interruption: it continues.

    \b
    Examples:
      clipmill dedup --embeddings embeddings/ --output duplicates/ --threshold 0.96
      clipmill dedup --embeddings s3://bucket/b32/ --output s3://bucket/b32-duplicates/ --keep largest
      clipmill dedup --embeddings embeddings/ --output duplicates/ --method exact --linkage complete
    """
    settings = of_current(settings)
    made = dedup_stage(settings, cluster, current())
    manifest, already = made.manifest, made.already
    if as_json:
        print_json({"output": settings.output, "already_complete": already, **manifest.model_dump(mode="json")})
        return
    if already:
        click.echo(f"{settings.output} is already complete")
    click.echo(
        f"{manifest.pairs:,} pairs of {manifest.n:,} {manifest.gallery} have a cosine of {manifest.threshold:g} or more\n"
        f"{manifest.method}{f' ({manifest.why})' if manifest.why else ''}: {manifest.recall_in_words}\n"
        f"{manifest.rows_in_groups:,} {manifest.gallery} in {manifest.groups:,} groups, the largest of "
        f"{manifest.largest_group:,}{_least_alike(manifest)}; {manifest.rows_dropped:,} can be dropped "
        f"(--keep {settings.keep})\n"
        f"{settings.output}"
    )


def _least_alike(manifest: DuplicatesManifest) -> str:
    """How wide groups are; nothing where that was not measured."""
    if manifest.least_cosine is None:
        return ""
    bound = "no less than " if manifest.bounded_groups else ""
    return f", the two rows of a group that are least alike at a cosine of {bound}{short(manifest.least_cosine)}"


if __name__ == "__main__":
    command()
