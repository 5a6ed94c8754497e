"""Training as the first stage of a run: what is embedded is embedded with its model, if that is better than before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from clipmill.core.errors import BarMissed
from clipmill.core.reporter import Reporter
from clipmill.core.settings import TrainSettings
from clipmill.runs.run_file import RunFile
from clipmill.versions.place import Place

_JUDGED = ("zero-shot.acc1", "t2i.recall@1")
"""What has to be better, the first of these that was compared."""


def with_trained_model(
    run: RunFile, settings: TrainSettings, reporter: Reporter, tell: Callable[[str, str], None]
) -> RunFile:
    """The run with the model of its `train` section, which is trained where it is not there yet.

    Raises BarMissed where it started from a trained model and is not better than that on the validation set, by more than
    chance.
    """
    from clipmill.runs.stages import train_stage
    from clipmill.runs.training_report import report_training
    from clipmill.train.checkpoint import Training

    models = Place.of(run.output).models
    token = Training(settings).staging.token
    placed = settings.model_copy(update={"output": (models / token).uri, "report": (models / f"{token}-report").uri})
    made = train_stage(placed, run.cluster, reporter)
    tell("train", "the model is there already" if made.already else f"a model of {placed.steps:,} steps")
    for line in report_training(placed, made.manifest, run.cluster, reporter):
        tell("", line)
    if settings.pretrained:
        _refuse_no_better(placed)
    embed = run.embed.model_copy(update={"pretrained": placed.output})
    return replace(run, embed=embed)


def _refuse_no_better(settings: TrainSettings) -> None:
    from clipmill import storage
    from clipmill.report.comparison.document import Comparison

    place = storage.resolve(f"{settings.report}/validation/comparison/comparison.json")
    comparison = Comparison.model_validate_json(storage.read_bytes(place))
    changes = {change.key: change for task in comparison.candidates[0].tasks for change in task.changes}
    judged = next((changes[key] for key in _JUDGED if key in changes), None)
    if judged is None or judged.verdict != "better":
        what = "nothing of it could be compared" if judged is None else f"{judged.key}: {judged.verdict}"
        raise BarMissed(
            f"train: the model is not better than the one it started from ({what}), so nothing is published; see "
            f"{settings.report}/training.html, and change or leave out the `train` section"
        )
