"""clipmill run: every stage of a YAML file; a finished one whose inputs are unchanged is not run again."""

from pathlib import Path

import click

from jobs.command import Job, replacing
from jobs.embed import embed_stage
from jobs.evaluate import evaluate_stage
from jobs.index import index_stage
from pipeline.run_file import RunFile, read_run_file


@click.command("run", cls=Job)
@click.argument("config", type=click.Path(path_type=Path))
def command(config: Path) -> None:
    """Embed, index and evaluate as a YAML file says.

    Stages publish below `output`: embeddings/, index/ and report/. A stage that is finished and whose inputs and
    settings are unchanged is not run again; one that has changed replaces its output once the new one is complete.

    \b
    Example:                       nightly.yaml:
      clipmill run nightly.yaml      output: out/nightly
                                     embed:
                                       input: photos/
                                       thumbnails: 128
                                     index:
                                       target_recall: 0.97
                                     evaluate: {}
    """
    run_stages(read_run_file(config))


def run_stages(run: RunFile) -> None:
    """The stages in order, each told on stdout in one line."""
    embeddings, already = replacing(run.embed, lambda settings: embed_stage(settings, run.cluster))
    counts = embeddings.counts
    _say("embed", run.embed.output, already, f"{counts.images:,} images, {counts.captions:,} captions")
    if run.index is not None:
        index, already = replacing(run.index, lambda settings: index_stage(settings, run.cluster))
        recall = index.operating_point.confirmed_recall or index.operating_point.recall
        _say("index", run.index.output, already, f"{index.factory}, recall {recall.value:.3f}")
    if run.evaluate is not None:
        report, already = replacing(run.evaluate, evaluate_stage)
        _say("evaluate", run.evaluate.output, already, f"report.html, {len(report.absences)} things not measured")


def _say(stage: str, place: str, already: bool, what: str) -> None:
    click.echo(f"{stage:9} {'unchanged' if already else 'done     '} {place}: {what}")


if __name__ == "__main__":
    command()
