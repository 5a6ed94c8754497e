"""clipmill run: every stage over an input, or of a YAML file, as a new version, which readers see once it is whole."""

import click

from clipmill.core.errors import UserError
from clipmill.core.settings import ClusterSettings, RunSettings
from clipmill_jobs.command import Job
from clipmill_jobs.options import settings_options
from clipmill_jobs.reporting import current


@click.command("run", cls=Job, doing="looking at the input", context_settings={"allow_extra_args": True})
@settings_options(settings=RunSettings, cluster=ClusterSettings)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another run towards the same output to end. Default: leave at once.",
)
@click.pass_context
def command(context: click.Context, settings: RunSettings, cluster: ClusterSettings, wait: float) -> None:
    """Embed, index and evaluate an input, and publish the result as a new version, to be searched.

    An input is a folder of pictures (sounds, videos), Parquet, tar archives or a list; what is made of it lies in NAME.clipmill
    beside it. Run again, only new and changed files are embedded; rows of files that are gone are dropped; the index keeps its
    training as long as the vectors look like those it was trained on. A YAML file in its place says everything itself, also
    whether captions are written or a model is trained first; --save-config writes one to begin with.

    When all of it is whole and reaches the bars under `gates`, output/current.json is switched to the new version: readers see
    the old one or the new one, never a mix. A bar that is missed ends the run with exit code 3, and what is published stays.

    \b
    Examples:                        nightly.yaml:
      clipmill run photos/             output: out/nightly
      clipmill run nightly.yaml        embed:
                                         input: photos/
                                         thumbnails: 128
                                       index:
                                         target_recall: 0.97
                                       evaluate: {}
                                       gates:
                                         max_rejects: 1%
                                         max_t2i_drop: 0.01
    """
    from clipmill.runs.from_input import next_commands, read_asked
    from clipmill.runs.version_run import run_version
    from clipmill.versions.pointer import current as current_part

    _refuse_several(settings.source, context.args)
    asked = read_asked(settings, cluster)
    run_version(asked.run, asked.called, wait, current(), say)
    if asked.output is not None:
        click.echo(f"\nThe report: {current_part(asked.output, 'report')}/report.html\nType next:")
        for line in next_commands(asked.output):
            click.echo(line)


def say(stage: str, what: str) -> None:
    """One line on stdout; without a stage it goes on with the one before."""
    click.echo(f"{stage:9} {what}")


def _refuse_several(first: str, others: list[str]) -> None:
    """Raises UserError for more than one input, which a shell makes of a pattern."""
    if not others:
        return
    import os
    import shlex

    folder = os.path.commonpath([os.path.dirname(os.path.abspath(one)) for one in (first, *others)])
    folder = os.path.relpath(folder)
    raise UserError(
        f"{len(others) + 1} inputs were given, and one is run at a time: a folder, or a pattern in quotes; type: clipmill run "
        f"{shlex.quote(folder)}/"
    )


if __name__ == "__main__":
    command()
