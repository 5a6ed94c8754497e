"""clipmill recaption: captions and texts about the same pictures to source Parquet with those that are true."""

import click

from clipmill.core.settings import ClusterSettings, RecaptionSettings
from clipmill.core.text_manifests import CaptionedManifest
from clipmill.runs.text_stages import recaption_stage
from clipmill_jobs.command import Job, print_json
from clipmill_jobs.options import settings_options
from clipmill_jobs.reporting import current


@click.command("recaption", cls=Job, doing="reading the list of input files")
@settings_options(
    settings=RecaptionSettings,
    cluster=ClusterSettings,
    exclude=("num_gpu_actors",),
    help_of={"output": "Folder for captioned/ and dropped/; local or s3://."},
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(settings: RecaptionSettings, cluster: ClusterSettings, as_json: bool) -> None:
    """Filter captions, and texts that were written about the same pictures, by how well they fit (CapFilt).

    captioned/ holds the rows of the input with all their columns, and in place of the captions those texts that score enough:
    caption, caption_source (original or generated) and score are lists of one length. dropped/ holds each other text with why.
    `clipmill embed` and `clipmill train` read the output as any input. Run it again after an interruption: it continues.

    \b
    Examples:
      clipmill recaption --input photos/ --texts captions/ --output captioned/
      clipmill recaption --input photos/ --texts captions/ --output captioned/ --filter itm --model models/blip-itm/
    """
    made = recaption_stage(settings, cluster, current())
    if as_json:
        document = made.manifest.model_dump(mode="json")
        print_json({"output": settings.output, "already_complete": made.already, **document})
        return
    if made.already:
        click.echo(f"{settings.output} is already complete")
    for line in lines(made.manifest):
        click.echo(line)


def lines(manifest: CaptionedManifest) -> list[str]:
    """What was kept and dropped, in words."""
    counts, chosen = manifest.counts, manifest.threshold
    told = [
        f"{counts.captioned:,} of {counts.rows:,} pictures keep a text: {counts.kept_originals:,} of {counts.originals:,} "
        f"captions and {counts.kept_generated:,} of {counts.generated:,} that were written",
        f"texts that score {chosen.value:.4f} or more are kept",
    ]
    if chosen.wrong_kept is not None:
        told[-1] += (
            f"; by estimate {chosen.wrong_before:.0%} of all are wrong, and {chosen.wrong_kept:.1%} of those kept"
        )
    told += [f"{count:>12,}  {reason}" for reason, count in counts.dropped_by_reason.items()]
    if counts.cut:
        told.append(f"{counts.cut:,} texts are longer than the model reads, and were scored by their beginning")
    return told


if __name__ == "__main__":
    command()
