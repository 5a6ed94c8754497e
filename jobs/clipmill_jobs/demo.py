"""clipmill demo: everything clipmill does, on rendered scenes, with the built-in model and no network."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from clipmill.core.settings import (
    ClusterSettings,
    EmbedSettings,
    EvaluateSettings,
    IndexSettings,
    SampleSettings,
    build,
)
from clipmill_jobs.command import (
    Job,
    cluster_options,
    encoder_options,
    import_meanwhile,
    progress,
    replacing,
    split_options,
)

SEED = 2026
THUMBNAIL_PIXELS = 96
SEARCHES = (
    "two green triangles",
    "a small yellow star and a large blue circle",
    "a large red heart on a checkered background",
)


@click.command("demo", cls=Job)
@click.option("--output", default="out/demo", show_default=True, help="Folder for everything the demo makes.")
@click.option("--rows", type=click.IntRange(min=1), default=5000, show_default=True, help="Scenes to render.")
@cluster_options
@encoder_options
@click.pass_context
def command(context: click.Context, output: str, rows: int, **cluster: Any) -> None:
    """Render scenes that the built-in model has never seen, then embed, index, evaluate, verify and search them.

    Run again, it continues: what is finished and unchanged is not done again.

    \b
    Example:
      clipmill demo
    """
    from clipmill.engine.cluster import connect
    from clipmill.report.terminal import report_lines
    from clipmill.scenes.dataset import write_scenes
    from clipmill_jobs import embed, evaluate, index, search, verify

    settings = build(ClusterSettings, split_options(cluster)[0])
    places = {name: f"{output.rstrip('/')}/{name}" for name in ("scenes", "embeddings", "index", "report")}
    with _step(f"sample: {rows:,} scenes of a split the model was not trained on → {places['scenes']}"):
        sample = SampleSettings(output=places["scenes"], rows=rows, seed=SEED, split="held-out")
        with progress(rows, "scenes", "sample") as on_progress:
            replacing(sample, lambda chosen: (write_scenes(chosen, on_progress), True))
    with _step("start a local Ray cluster, or join the one that is there"):
        import_meanwhile("clipmill.engine.embed", "clipmill.encoders.model")
        connection = context.with_resource(connect(settings))
    click.echo(f"  {connection.cpus:g} CPUs, {connection.gpus:g} GPUs, {connection.nodes} nodes")
    with _step(f"embed: images and captions → {places['embeddings']}"):
        embedding = EmbedSettings(input=places["scenes"], output=places["embeddings"], thumbnails=THUMBNAIL_PIXELS)
        replacing(embedding, lambda chosen: embed.embed_stage(chosen, settings))
    with _step(f"index: sharded, tuned on captions → {places['index']}"):
        indexing = IndexSettings(embeddings=places["embeddings"], output=places["index"])
        replacing(indexing, lambda chosen: index.index_stage(chosen, settings))
    with _step(f"evaluate: model quality and index fidelity → {places['report']}"):
        evaluation = EvaluateSettings(embeddings=places["embeddings"], index=places["index"], output=places["report"])
        report, _ = replacing(evaluation, evaluate.evaluate_stage)
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
    started = time.monotonic()
    yield
    click.echo(f"  {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    command()
