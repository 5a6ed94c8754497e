"""clipmill plan: what a run will take, before it is started."""

from typing import Any

import click

from clipmill.core.settings import DEFAULT_QUERY_SAMPLE
from clipmill_jobs.command import Job
from clipmill_jobs.options import COUNT, SIZE


@click.command("plan", cls=Job, doing="counting what it takes")
@click.option("--rows", type=COUNT, metavar="ROWS", help="Rows to embed: 5000, 500k, 10M. Default: those of --compare.")
@click.option("--model", help="open_clip model name. Default: that of --calibrate, else the built-in small model.")
@click.option(
    "--image-bytes", type=SIZE, metavar="SIZE", default="50KB", show_default=True, help="Of one image file, on average."
)
@click.option("--image-pixels", default="500x375", show_default=True, metavar="WxH", help="Of one image, on average.")
@click.option("--captions-per-image", type=click.FloatRange(min=0), help="Default: those of --calibrate, else 1.")
@click.option(
    "--machine", metavar="TYPE|CORES,GPUS,KIND", help="g6.4xlarge, or 32,4,L4. Default: as --calibrate, else 8."
)
@click.option("--machines", type=click.IntRange(min=1), default=1, show_default=True, help="How many of them.")
@click.option("--price", type=click.FloatRange(min=0), metavar="PER_HOUR", help="Of one machine.")
@click.option(
    "--memory",
    type=SIZE,
    metavar="SIZE",
    default="4GiB",
    show_default=True,
    help="What search of the index may keep resident.",
)
@click.option(
    "--query-sample",
    default=f"{DEFAULT_QUERY_SAMPLE}",
    show_default=True,
    metavar="N|all",
    help="Queries of each direction that `clipmill evaluate` ranks, at most.",
)
@click.option("--calibrate", metavar="URI", help="Embeddings of an earlier run on such machines, whose rates are used.")
@click.option("--compare", metavar="URI", help="Embeddings of a finished run: forecast and actual, side by side.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(**options: Any) -> None:
    """Say what embedding and indexing will take: time, cores, bytes, memory and money.

    Each number comes with its range and what was assumed for it. With --calibrate, rates are those of an earlier run:
    some thousand rows on the same kind of machine are enough. Without, they follow from the model's published operations
    and from shares of the hardware's peak, and are good to a factor of about two.

    \b
    Examples:
      clipmill plan --rows 100000000 --model ViT-L-14 --machine g6.12xlarge --machines 4 --price 4.60
      clipmill plan --rows 100000000 --calibrate trial/ --machine 64
      clipmill plan --calibrate trial/ --compare embeddings/
    """
    from clipmill_jobs.planning import answer

    answer(options)


if __name__ == "__main__":
    command()
