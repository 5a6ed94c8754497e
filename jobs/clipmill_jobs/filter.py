"""clipmill filter: embeddings to the rows kept, and those dropped with why."""

import click

from clipmill.core.settings import ClusterSettings, FilterSettings
from clipmill.runs.stages import filter_stage
from clipmill_jobs.command import Job, of_current, print_json
from clipmill_jobs.options import cluster_options, settings_options
from clipmill_jobs.reporting import current


@click.command("filter", cls=Job, doing="reading the embeddings' manifest")
@settings_options(settings=FilterSettings, help_of={"output": "Folder for kept/ and dropped/; local or s3://."})
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@cluster_options
def command(settings: FilterSettings, cluster: ClusterSettings, as_json: bool) -> None:
    """Keep image rows that meet every condition, and say of each other why not.

    kept/ and dropped/ hold one row per image: row, id, width, height, the columns kept from the source, captions,
    clip_score (of the best caption) and cosine_1, cosine_2, … (the similarity with each --prompt, in their order);
    dropped/ has `why` besides, with every reason there is. --where sees all these columns. Where a cluster is named
    (--address), rows are filtered by its tasks. Run it again after an interruption: it continues.

    \b
    Examples:
      clipmill filter --embeddings embeddings/ --output selection/ --min-clip-score 0.2 --duplicates duplicates/
      clipmill filter --embeddings embeddings/ --output photos/ --prompt "a photo >= 0.2" --where "width >= 256"
    """
    settings = of_current(settings)
    made = filter_stage(settings, current(), cluster)
    manifest, already = made.manifest, made.already
    if as_json:
        print_json({"output": settings.output, "already_complete": already, **manifest.model_dump(mode="json")})
        return
    if already:
        click.echo(f"{settings.output} is already complete")
    click.echo(f"{manifest.kept:,} of {manifest.rows:,} images are kept, {manifest.dropped:,} dropped")
    for reason, count in manifest.dropped_by_reason.items():
        click.echo(f"{count:>12,}  {reason}")
    click.echo(settings.output)


if __name__ == "__main__":
    command()
