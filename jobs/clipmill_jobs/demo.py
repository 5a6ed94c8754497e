"""clipmill demo: everything clipmill does, on rendered scenes, with the built-in model and no network."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from clipmill.core.settings import ClusterSettings, EmbedSettings, EvaluateSettings, IndexSettings, SampleSettings
from clipmill_jobs.command import Job
from clipmill_jobs.options import COUNT, settings_options
from clipmill_jobs.reporting import current

SEED = 2026
THUMBNAIL_PIXELS = 96
SEARCHES = (
    "two green triangles",
    "a small yellow star and a large blue circle",
    "a large red heart on a checkered background",
)


@click.command("demo", cls=Job)
@click.option("--output", default="out/demo", show_default=True, help="Folder for everything the demo makes.")
@click.option(
    "--rows", type=COUNT, metavar="ROWS", default=5000, show_default=True, help="Scenes to render: 5000, 500k."
)
@settings_options(cluster=ClusterSettings)
@click.pass_context
def command(context: click.Context, output: str, rows: int, cluster: ClusterSettings) -> None:
    """Render scenes that the built-in model has never seen, then embed, index, evaluate, verify and search them.

    Run again, it continues: what is finished and unchanged is not done again.

    \b
    Example:
      clipmill demo
    """
    from clipmill.report.terminal import report_lines
    from clipmill.runs.stages import embed_stage, evaluate_stage, index_stage, replacing
    from clipmill.scenes.dataset import write_scenes
    from clipmill_jobs import search, verify

    reporter = current()
    places = {name: f"{output.rstrip('/')}/{name}" for name in ("scenes", "embeddings", "index", "report")}
    with _step(f"sample: {rows:,} scenes of a split the model was not trained on → {places['scenes']}"):
        sample = SampleSettings(output=places["scenes"], rows=rows, seed=SEED, split="held-out")
        replacing(sample, lambda chosen: write_scenes(chosen, reporter))
    with _step(f"embed: images and captions → {places['embeddings']}"):
        embedding = EmbedSettings(input=places["scenes"], output=places["embeddings"], thumbnails=THUMBNAIL_PIXELS)
        replacing(embedding, lambda chosen: embed_stage(chosen, cluster, reporter))
    with _step(f"index: sharded, tuned on captions → {places['index']}"):
        indexing = IndexSettings(embeddings=places["embeddings"], output=places["index"])
        replacing(indexing, lambda chosen: index_stage(chosen, cluster, reporter))
    with _step(f"evaluate: model quality and index fidelity → {places['report']}"):
        evaluation = EvaluateSettings(embeddings=places["embeddings"], index=places["index"], output=places["report"])
        report = replacing(evaluation, lambda chosen: evaluate_stage(chosen, reporter)).manifest
    with _step("verify: every row accounted for, every file as written"):
        for name in ("embeddings", "index"):
            context.invoke(verify.command, uri=places[name])
    click.echo("")
    for line in report_lines(report):
        click.echo(line)
    for text in SEARCHES:
        click.echo(f'\nclipmill search --index {places["index"]} --text "{text}" -k 3')
        context.invoke(search.command, index_uri=places["index"], text=text, k=3)
    click.echo(f"\nThe report: {places['report']}/report.html")


@contextmanager
def _step(title: str) -> Iterator[None]:
    click.secho(f"\n{title}", bold=True)
    current().doing("demo", title)
    started = time.monotonic()
    yield
    click.echo(f"  {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    command()
