"""clipmill compare: two reports or more to a page that says what got better and what got worse."""

from typing import Any

import click

from clipmill.core.errors import BarMissed
from clipmill.core.settings import CompareSettings, build
from clipmill.report.comparison.bars import bars_missed
from clipmill.report.comparison.comparison import make_comparison
from clipmill.report.comparison.terminal import comparison_lines
from clipmill_jobs.command import Job, print_json


@click.command("compare", cls=Job)
@click.argument("reports", nargs=-1, metavar="REPORT REPORT …")
@click.option("--output", required=True, help="Folder for comparison.html, comparison.json and comparison.md.")
@click.option(
    "--match",
    type=click.Choice(["path", "id"]),
    default="path",
    show_default=True,
    help="What makes two queries the same: source path and row number, or the id, where the files have moved.",
)
@click.option("--bootstrap-samples", type=int, default=2000, show_default=True, help="Resamples for the intervals.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--max-drop",
    type=float,
    metavar="SHARE",
    help="Exit with 3 when a recall or accuracy is visibly worse by more than this share (0.01: one point).",
)
@click.option("--overwrite", is_flag=True, help="Replace a finished comparison, once the new one is complete.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(as_json: bool, **options: Any) -> None:
    """Compare models, index settings or nightly versions by their reports; the first report is the baseline.

    Reports over the same data are tested on the same queries, resampling images: what got better or worse, by how much,
    and which queries flipped. Reports of different data are shown side by side without tests, and it says so.

    \b
    Examples:
      clipmill compare report-b32/ report-l14/ --output comparison/
      clipmill compare last-night/report/ tonight/report/ --output comparison/ --max-drop 0.01
    """
    settings = build(CompareSettings, options)
    comparison, already = make_comparison(settings)
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
