"""clipmill compare: two reports or more to a page that says what got better and what got worse."""

import click

from clipmill.core.errors import BarMissed
from clipmill.core.settings import CompareSettings
from clipmill_jobs.command import Job, print_json
from clipmill_jobs.options import settings_options


@click.command("compare", cls=Job, doing="reading the reports")
@settings_options(
    settings=CompareSettings,
    help_of={"output": "Folder for comparison.html, comparison.json and comparison.md; local or s3://."},
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(settings: CompareSettings, as_json: bool) -> None:
    """Compare models, index settings or nightly versions by their reports; the first report is the baseline.

    Reports over the same data are tested on the same queries, resampling images: what got better or worse, by how much,
    and which queries flipped. Reports of different data are shown side by side without tests, and it says so.

    \b
    Examples:
      clipmill compare report-b32/ report-l14/ --output comparison/
      clipmill compare last-night/report/ tonight/report/ --output comparison/ --max-drop 0.01
    """
    from clipmill.report.comparison.bars import bars_missed
    from clipmill.report.comparison.comparison import make_comparison
    from clipmill.report.comparison.terminal import comparison_lines

    made = make_comparison(settings)
    comparison, already = made.manifest, made.already
    missed = [] if settings.max_drop is None else bars_missed(comparison, settings.max_drop)
    if as_json:
        document = comparison.model_dump(mode="json")
        print_json({"output": settings.output, "already_complete": already, "bars_missed": missed, **document})
    else:
        if already:
            click.echo(f"{settings.output} is already complete")
        for line in comparison_lines(comparison):
            click.echo(line)
        click.echo(f"{settings.output.rstrip('/')}/comparison.html")
    if missed:
        raise BarMissed(f"--max-drop {settings.max_drop}: {'; '.join(missed)}")


if __name__ == "__main__":
    command()
