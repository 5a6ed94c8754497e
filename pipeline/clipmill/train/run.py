"""Training as a stage: one worker here, or what another room brings to drive several."""

from collections.abc import Callable

import torch

from clipmill.core.settings import TrainSettings
from clipmill.stage.stage import Made, Work
from clipmill.train.checkpoint import ModelRecord, Training, finished_record, note_finished
from clipmill.train.trainer import Told, train_worker
from clipmill.train.workers import Alone

Drive = Callable[[Work], ModelRecord]
"""Trains in the staging folder and leaves the model in the dataset folder; returns its record."""


def train_here(settings: TrainSettings, work: Work, told: Told, device: str) -> ModelRecord:
    """One worker, in this process, on ``device`` (cuda or cpu)."""
    checked = Told(told.step, told.validation, work.lease.check)
    record = train_worker(settings, work.folder, work.dataset, Alone(), torch.device(device), checked)
    assert record is not None
    return record


def train(settings: TrainSettings, drive: Drive) -> Made[ModelRecord]:
    """Trains and publishes a model.

    A run that was stopped goes on from its last checkpoint and ends with the weights it would have had. The outcome is
    decided by the settings and the data alone, on one kind of machine with one number of threads and workers. Raises
    UserError for a mistake in the settings or the input, RunFailed when the loss is no longer a number.
    """

    training = Training(settings)

    def work(work: Work) -> ModelRecord:
        work.start()
        record = finished_record(work.folder)
        if record is None:
            record = drive(work)
            note_finished(work.folder, record)
        # Workers elsewhere were given other names for the same places; the record has those of the user.
        return record.model_copy(update={"configuration": training.configuration})

    return training.run(work)
