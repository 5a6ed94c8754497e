"""`clipmill sample`: rendered scenes with captions and labels, as source Parquet."""

import click

from clipmill.core.settings import SampleSettings
from clipmill_jobs.command import Job, print_json
from clipmill_jobs.options import settings_options
from clipmill_jobs.reporting import current


@click.command("sample", cls=Job, doing="rendering scenes")
@settings_options(settings=SampleSettings)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON summary to stdout.")
def command(settings: SampleSettings, as_json: bool) -> None:
    """Render scenes with captions and labels as source Parquet.

    A scene has one to three coloured shapes over a patterned background. Its columns: id, image, caption (a list),
    negative_caption (a list of captions that are false of it), label (the main object), size, objects, layout,
    background, and scene (its canonical description).

    \b
    Example:
      clipmill sample --output out/scenes --rows 5000 --seed 1
      clipmill embed --input out/scenes --output out/embeddings
    """
    from clipmill.scenes.dataset import write_scenes

    made = write_scenes(settings, current())
    if made.already:
        current().message("sample", f"{settings.output} is already complete")
    if as_json:
        print_json({"output": settings.output, "rows": settings.rows, "made": not made.already})


if __name__ == "__main__":
    command()
