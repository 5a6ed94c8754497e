"""What `clipmill caption` and `clipmill ask` print."""

import click

from clipmill.core.text_manifests import TextsManifest
from clipmill_jobs.command import print_json


def print_texts(manifest: TextsManifest, uri: str, *, already: bool, as_json: bool) -> None:
    """What was written, or the manifest as JSON."""
    if as_json:
        print_json({"output": uri, "already_complete": already, **manifest.model_dump(mode="json")})
        return
    counts = manifest.counts
    if already:
        click.echo(f"{uri} is already complete: {counts.texts:,} texts about {counts.answered:,} pictures")
        return
    click.echo(f"{uri}: {counts.texts:,} texts about {counts.answered:,} of {counts.rows:,} pictures")
    if counts.cut:
        click.echo(
            f"{counts.cut:,} texts were cut at the most tokens (finish = length): raise --max-tokens to have them whole"
        )
    if counts.rejected_by_reason:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.rejected_by_reason.items())
        click.echo(f"rejected: {reasons} (see {uri}/rejected)")
    speed = manifest.throughput
    click.echo(f"{speed.texts_per_second:,.2f} texts/s, {speed.tokens_per_second:,.1f} tokens/s")
