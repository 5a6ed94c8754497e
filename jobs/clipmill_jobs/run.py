"""clipmill run: every stage of a YAML file as a new version, which readers see once it is whole and good enough."""

from pathlib import Path

import click

from clipmill_jobs.command import Job
from clipmill_jobs.reporting import current


@click.command("run", cls=Job, doing="reading the run file")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another run towards the same output to end. Default: leave at once.",
)
def command(config: Path, wait: float) -> None:
    """Embed, index and evaluate as a YAML file says, and publish the result as a new version; write captions first if it does.

    Only new and changed files of the input are embedded; rows of files that are gone are dropped; the index keeps its
    training as long as the vectors look like those it was trained on. When all of it is whole and reaches the bars under
    `gates`, output/current.json is switched to the new version: readers see the old one or the new one, never a mix. A
    bar that is missed ends the run with exit code 3, and what is published stays.

    \b
    Example:                       nightly.yaml:
      clipmill run nightly.yaml      output: out/nightly
                                     embed:
                                       input: photos/
                                       thumbnails: 128
                                     index:
                                       target_recall: 0.97
                                     evaluate: {}
                                     gates:
                                       max_rejects: 1%
                                       max_t2i_drop: 0.01
    """
    from clipmill.runs.run_file import read_run_file
    from clipmill.runs.version_run import run_version

    run_version(read_run_file(config, look_at_places=True), str(config), wait, current(), say)


def say(stage: str, what: str) -> None:
    """One line on stdout; without a stage it goes on with the one before."""
    click.echo(f"{stage:9} {what}")


if __name__ == "__main__":
    command()
