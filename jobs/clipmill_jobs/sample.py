"""`clipmill sample`: rendered scenes with captions and labels, as source Parquet."""

from typing import Any

import click

from clipmill.core import settings as config
from clipmill.scenes.dataset import write_scenes
from clipmill_jobs.command import Job, print_json, progress


@click.command("sample", cls=Job)
@click.option("--output", required=True, help="Folder to make, local or s3://.")
@click.option("--rows", required=True, type=int, help="Number of scenes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Row i of a seed is the same whatever --rows is.")
@click.option(
    "--split",
    type=click.Choice(["train", "held-out"]),
    default="held-out",
    show_default=True,
    help="The two share no scene. The built-in model was trained on the first.",
)
@click.option("--image-size", type=int, default=96, show_default=True, help="Side of the square pictures in pixels.")
@click.option("--overwrite", is_flag=True, help="Replace what is at --output, once the new data is complete.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON summary to stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Render scenes with captions and labels as source Parquet.

    A scene has one to three coloured shapes over a patterned background. Its columns: id, image, caption (a list),
    negative_caption (a list of captions that are false of it), label (the main object), size, objects, layout,
    background, and scene (its canonical description).

    \b
    Example:
      clipmill sample --output out/scenes --rows 5000 --seed 1
      clipmill embed --input out/scenes --output out/embeddings
    """
    settings = config.build(config.SampleSettings, options)
    with progress(settings.rows, "scenes", "sample") as advance:
        made = write_scenes(settings, advance)
    if not made:
        click.echo(f"{settings.output}: already complete", err=True)
    if as_json:
        print_json({"output": settings.output, "rows": settings.rows, "made": made})


if __name__ == "__main__":
    command()
