"""clipmill filter: embeddings to the rows kept, and those dropped with why."""

from typing import Any

import click

from clipmill import storage
from clipmill.core.schemas import SelectionManifest
from clipmill.core.settings import FilterSettings, build
from clipmill.curate.filter import Encode, Filter, finished, make_filter, run_filter
from clipmill.storage.lease import owned
from clipmill.versions.pointer import with_current
from clipmill_jobs.command import Job, print_json, progress


@click.command("filter", cls=Job)
@click.option("--embeddings", required=True, help="Embeddings dataset to filter; local or s3://.")
@click.option("--output", required=True, help="Folder for kept/ and dropped/; local or s3://.")
@click.option("--min-clip-score", type=float, help="Drop images whose best caption is less similar than this.")
@click.option(
    "--prompt",
    multiple=True,
    metavar="TEXT[>=X]",
    help='Score images against a text; "a dog >= 0.25" drops what is less similar, "a weapon < 0.25" what is more. '
    "May be given several times.",
)
@click.option("--duplicates", help="What `clipmill dedup` made of these images: drop what it does not keep.")
@click.option("--where", help="Drop rows that do not meet this SQL condition.")
@click.option(
    "--pretrained", help="Where the weights of the embeddings' model are now. Default: as their manifest says."
)
@click.option("--overwrite", is_flag=True, help="Replace a finished output, once the new one is complete.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(as_json: bool, **options: Any) -> None:
    """Keep image rows that meet every condition, and say of each other why not.

    kept/ and dropped/ hold one row an image: row, id, width, height, the columns kept from the source, captions,
    clip_score (of the best caption) and cosine_1, cosine_2, … (the similarity with each --prompt, in their order);
    dropped/ has `why` besides, with every reason there is. --where sees all these columns.

    \b
    Examples:
      clipmill filter --embeddings embeddings/ --output selection/ --min-clip-score 0.2 --duplicates duplicates/
      clipmill filter --embeddings embeddings/ --output photos/ --prompt "a photo >= 0.2" --where "width >= 256"
    """
    settings = build(FilterSettings, with_current(options))
    manifest, already = filter_stage(settings)
    if as_json:
        print_json({"output": settings.output, "already_complete": already, **manifest.model_dump(mode="json")})
        return
    if already:
        click.echo(f"{settings.output} is already complete")
    click.echo(f"{manifest.kept:,} of {manifest.rows:,} images are kept, {manifest.dropped:,} dropped")
    for reason, count in manifest.dropped_by_reason.items():
        click.echo(f"{count:>12,}  {reason}")
    click.echo(settings.output)


def filter_stage(settings: FilterSettings) -> tuple[SelectionManifest, bool]:
    """What was kept and dropped, and whether it was there already; progress goes to stderr."""
    work = make_filter(settings)
    manifest = finished(work)
    if manifest is not None:
        work.staging.drop_leftovers()
        return manifest, True
    with owned(storage.staging_of(work.output)) as ownership:
        work.staging.open(overwrite=settings.overwrite)
        start = work.staging.note_start(0)
        with progress(work.gallery.n, "rows", "filter") as advance:
            return run_filter(work, start, _encoder(work), advance, ownership.check), False


def _encoder(work: Filter) -> Encode:
    def encode(texts: list[str]) -> Any:
        from clipmill.encoders.model import load_model_of  # imports torch, which only prompts need

        identity = work.gallery.dataset.manifest.model
        assert identity is not None  # make_filter has refused prompts without it
        return load_model_of(identity, None, work.settings.pretrained, "the embeddings").encode_texts(texts)

    return encode


if __name__ == "__main__":
    command()
