"""`clipmill train`: a CLIP model from image/caption Parquet, fresh or from a checkpoint."""

import json
import time
from typing import TYPE_CHECKING

import click

from clipmill.core.reporter import Reporter
from clipmill.core.settings import TrainSettings
from clipmill_jobs.command import Job, print_json
from clipmill_jobs.options import settings_options
from clipmill_jobs.reporting import current

if TYPE_CHECKING:
    from clipmill.train.trainer import Step
    from clipmill.train.validate import Validation

_SECONDS_BETWEEN_LOSSES = 10.0


@click.command("train", cls=Job, doing="loading torch")
@settings_options(
    settings=TrainSettings, help_of={"output": "Folder for the model, in open_clip's local-dir layout; local or s3://."}
)
@click.option("--json", "as_json", is_flag=True, help="Print what is in training.json to stdout.")
def command(settings: TrainSettings, as_json: bool) -> None:
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
    from clipmill.encoders.names import refuse_unknown_model

    refuse_unknown_model(settings.model, settings.pretrained)
    reporter = current()
    reporter.message("train", "loading torch")
    from clipmill import storage
    from clipmill.train.checkpoint import RECORD_FILE
    from clipmill.train.trainer import train

    told = _Told(reporter)
    if train(settings, told.step, told.validation).already:
        reporter.message("train", f"{settings.output} is already complete")
    if as_json:
        print_json(json.loads(storage.read_bytes(storage.resolve(settings.output) / RECORD_FILE)))


class _Told:
    """Tells a reporter how training goes: every step as progress, the loss every few seconds, and each validation."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._last = time.monotonic() - _SECONDS_BETWEEN_LOSSES
        self._at: int | None = None

    def step(self, step: "Step") -> None:
        """After a step of the optimiser."""
        if self._at is None:
            self._reporter.progress("train", step.step - 1, step.steps, "steps")
        self._at = step.step
        if step.step == step.steps or time.monotonic() - self._last >= _SECONDS_BETWEEN_LOSSES:
            self._last = time.monotonic()
            speed = f"{step.images_per_second:,.0f} images/s"
            self._reporter.message("train", f"step {step.step}/{step.steps}  loss {step.loss:.3f}  {speed}")
        self._reporter.progress("train", step.step, step.steps, "steps")

    def validation(self, step: int, found: "Validation") -> None:
        """After a validation."""
        rates = "  ".join(f"{name} {value}" for name, value in found.as_dict().items() if value is not None)
        self._reporter.message("train", f"step {step} validation: {rates}")


if __name__ == "__main__":
    command()
