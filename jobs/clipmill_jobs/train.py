"""`clipmill train`: a CLIP model from image/caption Parquet, fresh or from a checkpoint."""

import json
import time
from datetime import timedelta
from typing import Any

import click

from clipmill.core import settings as config
from clipmill_jobs.command import Job, print_json

_SECONDS_BETWEEN_LINES = 5.0


@click.command("train", cls=Job)
@click.option("--input", required=True, help="Parquet with images and captions: file, folder, glob or s3:// prefix.")
@click.option("--output", required=True, help="Folder to make, in open_clip's local-dir layout.")
@click.option("--model", help="Any open_clip model. Default: the architecture of the built-in small model.")
@click.option("--pretrained", help="Weights to start from: an open_clip tag, a file or a folder. Default: fresh ones.")
@click.option("--preprocessing", help="Tag whose preprocessing is used, where open_clip knows several for the model.")
@click.option("--validation", help="Parquet with held-out images and captions, on which recall is measured.")
@click.option("--steps", type=int, default=1000, show_default=True, help="Batches to learn from.")
@click.option("--batch-size", type=int, default=256, show_default=True, help="Images a step.")
@click.option("--learning-rate", type=float, default=1e-3, show_default=True, help="Peak; for fine-tuning about 1e-5.")
@click.option("--warmup-steps", type=int, default=100, show_default=True, help="Steps up to the peak.")
@click.option("--weight-decay", type=float, default=0.1, show_default=True, help="Of matrices; gains and biases: none.")
@click.option(
    "--negative-share",
    type=float,
    default=1.0,
    show_default=True,
    help="Share of images that bring one of their `negative_caption` texts, where the input has that column.",
)
@click.option("--validate-every", type=int, default=200, show_default=True, help="Steps between validations.")
@click.option(
    "--weights-precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="As saved."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides fresh weights and the order of the data.")
@click.option("--image-column", help="Default: found by its name.")
@click.option("--caption-column", help="Default: found by its name.")
@click.option("--overwrite", is_flag=True, help="Replace what is at --output, once the new model is complete.")
@click.option("--json", "as_json", is_flag=True, help="Print what is in training.json to stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Train or fine-tune a CLIP model on image/caption Parquet, with the contrastive loss InfoNCE.

    The output folder holds the model's configuration, its weights and training.json, and is what `clipmill embed
    --pretrained` takes. A run that was stopped goes on when the same command is given again. An optional column
    negative_caption (a list of captions that are false of the image) makes the model tell near misses apart.

    \b
    Example:
      clipmill sample --output out/scenes --rows 20000 --split train
      clipmill sample --output out/held-out --rows 1000
      clipmill train --input out/scenes --validation out/held-out --output out/model --steps 500
      clipmill embed --input out/held-out --output out/embeddings --pretrained out/model
    """
    settings = config.build(config.TrainSettings, options)
    from clipmill import storage
    from clipmill.train.checkpoint import RECORD_FILE
    from clipmill.train.trainer import Step, train
    from clipmill.train.validate import Validation

    last = time.monotonic() - _SECONDS_BETWEEN_LINES

    def report(step: Step) -> None:
        nonlocal last
        if time.monotonic() - last < _SECONDS_BETWEEN_LINES and step.step < step.steps:
            return
        last = time.monotonic()
        left = timedelta(seconds=round(step.seconds_left))
        click.echo(
            f"step {step.step}/{step.steps}  loss {step.loss:.3f}  {step.images_per_second:.0f} images/s  {left} left",
            err=True,
        )

    def report_validation(step: int, found: Validation) -> None:
        rates = "  ".join(f"{name} {value}" for name, value in found.as_dict().items() if value is not None)
        click.echo(f"step {step} validation: {rates}", err=True)

    if not train(settings, report, report_validation):
        click.echo(f"{settings.output}: already complete", err=True)
    if as_json:
        print_json(json.loads(storage.read_bytes(storage.resolve(settings.output) / RECORD_FILE)))


if __name__ == "__main__":
    command()
