"""clipmill simulate: how a run of any size would go, and what breaks first."""

from typing import Any

import click

from clipmill_jobs.command import Job
from clipmill_jobs.options import COUNT, SIZE


@click.command("simulate", cls=Job, doing="planning a run that nobody starts")
@click.option("--rows", type=COUNT, metavar="ROWS", required=True, help="Rows to embed: 10M, 5000M, 5e9.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Machines of the cluster.")
@click.option(
    "--machine", metavar="TYPE|CORES,GPUS,KIND", default="g6.4xlarge", show_default=True, help="Each of them."
)
@click.option("--model", default="ViT-B-32", show_default=True, help="open_clip model name.")
@click.option(
    "--image-bytes", type=SIZE, metavar="SIZE", default="50KB", show_default=True, help="Of one image file, on average."
)
@click.option("--image-pixels", default="500x375", show_default=True, metavar="WxH", help="Of one image, on average.")
@click.option(
    "--captions-per-image",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Of one image, on average.",
)
@click.option("--rows-per-file", type=COUNT, default="10000", show_default=True, help="Of the source files.")
@click.option("--rows-per-group", type=COUNT, default="1000", show_default=True, help="Of their row groups.")
@click.option("--memory", type=SIZE, metavar="SIZE", help="What search may keep resident. Default: 120 bytes a row.")
@click.option("--price", type=click.FloatRange(min=0), metavar="PER_HOUR", help="Of one machine.")
@click.option(
    "--drivers", type=click.IntRange(min=0), default=0, help="As of `clipmill embed`. Default: by the encoders."
)
@click.option("--json", "as_json", is_flag=True, help="Print the simulation as JSON.")
def command(**options: Any) -> None:
    """Say how a run of any size would go, stage by stage, and what breaks first.

    The real planner cuts a synthetic input into units and slices, and the real policies share out encoders; a clock
    stands in for S3 and Ray (docs/simulate.md says which costs were measured and which are assumed). Nothing is started.
    Five billion rows take half a minute and some gigabytes of memory.

    \b
    Examples:
      clipmill simulate --rows 5e9 --nodes 1000 --machine g6.4xlarge --price 1.32
      clipmill simulate --rows 100M --nodes 16 --machine p4d.24xlarge --model ViT-L-14 --json
    """
    from clipmill_jobs.simulating import answer

    answer(options)


if __name__ == "__main__":
    command()
