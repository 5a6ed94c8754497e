"""`clipmill train`: a CLIP model from image/caption Parquet, fresh or from a checkpoint."""

import json

import click

from clipmill import storage
from clipmill.core.settings import ClusterSettings, TrainSettings
from clipmill.runs.stages import train_stage
from clipmill_jobs.command import Job, print_json
from clipmill_jobs.options import settings_options
from clipmill_jobs.reporting import current

_ENCODERS = ("num_gpu_actors", "gpus_per_actor")
_RECORD = "training.json"


@click.command("train", cls=Job, doing="loading torch")
@settings_options(
    settings=TrainSettings,
    cluster=ClusterSettings,
    exclude=_ENCODERS,
    help_of={"output": "Folder for the model, in open_clip's local-dir layout; local or s3://."},
)
@click.option("--json", "as_json", is_flag=True, help="Print what is in training.json to stdout.")
def command(settings: TrainSettings, cluster: ClusterSettings, as_json: bool) -> None:
    """Train or fine-tune a CLIP model on images with captions, with the contrastive loss of CLIP or of SigLIP.

    The output folder holds the model's configuration, its weights and training.json, and is what `clipmill embed
    --pretrained` takes (from S3, copy it to this machine first). A run that was stopped goes on when the same command is
    given again. An optional column negative_caption (a list of captions that are false of the image) makes the model tell
    near misses apart.

    \b
    Example:
      clipmill sample --output out/scenes --rows 20000 --split train
      clipmill sample --output out/held-out --rows 1000
      clipmill train --input out/scenes --validation out/held-out --output out/model --steps 500
      clipmill embed --input out/held-out --output out/embeddings --pretrained out/model
    """
    reporter = current()
    made = train_stage(settings, cluster, reporter)
    if made.already:
        reporter.message("train", f"{settings.output} is already complete")
    if settings.report:
        from clipmill.runs.training_report import PAGE_FILE, report_training

        for line in report_training(settings, made.manifest, cluster, reporter):
            click.echo(line, err=as_json)
        click.echo(f"{settings.report.rstrip('/')}/{PAGE_FILE}", err=as_json)
    if as_json:
        print_json(json.loads(storage.read_bytes(storage.resolve(settings.output) / _RECORD)))


if __name__ == "__main__":
    command()
