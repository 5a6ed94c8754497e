"""What one worker does in a training run: from fresh or given weights, over its parts of the batches, to a model."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from clipmill.core import environment
from clipmill.core.errors import RunFailed
from clipmill.core.settings import TrainSettings
from clipmill.storage import Location
from clipmill.train.augment import Augmentation
from clipmill.train.batches import Batch, Sampling, ahead, batches
from clipmill.train.checkpoint import (
    Best,
    History,
    ModelRecord,
    Progress,
    Training,
    load_progress,
    save_progress,
)
from clipmill.train.data import find_data
from clipmill.train.examiner import Examiner
from clipmill.train.gradient import sum_gradients
from clipmill.train.learner import Examined, Weights
from clipmill.train.learners import make_learner
from clipmill.train.optimise import (
    Average,
    Rates,
    clip_gradients,
    learning_rate_at,
    make_optimiser,
    move,
    trained,
)
from clipmill.train.parts import running_statistics
from clipmill.train.workers import Workers

_LOG = logging.getLogger(__name__)
_DECODERS = 4
_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_LOSS_EVERY = 20


@dataclass(frozen=True)
class Step:
    """What is reported after a step; ``step`` counts from 1, ``loss`` is nats, ``images`` and ``seconds`` are those of all
    workers since this start."""

    step: int
    steps: int
    loss: float
    gradient_norm: float
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


@dataclass(frozen=True)
class Told:
    """Who is told what happens: after each step, after each validation (with the step), and when a checkpoint is written."""

    step: Callable[[Step], None]
    validation: Callable[[int, Examined], None]
    checkpoint: Callable[[], None] = lambda: None


def train_worker(
    settings: TrainSettings, folder: Location, dataset: Location, workers: Workers, device: torch.device, told: Told
) -> ModelRecord | None:
    """One worker's whole work. The first goes on from the checkpoint in ``folder``, writes it, tells what happens, and
    leaves the model in ``dataset``; it returns the record, the others None.

    Raises UserError for a mistake in the settings or the input, RunFailed when the loss is no longer a number.
    """
    with ThreadPoolExecutor(_DECODERS) as pool:
        return Trainer(settings, folder, workers, device, told, pool).train(dataset)


class Trainer:
    """The network, its data and its optimiser for the length of a run."""

    def __init__(
        self,
        settings: TrainSettings,
        folder: Location,
        workers: Workers,
        device: torch.device,
        told: Told,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.settings, self.folder, self.workers, self.told, self.pool = settings, folder, workers, told, pool
        self.augmentation = Augmentation.of(settings.augment or ())
        self.learner = make_learner(settings, device)
        found = find_data(settings, self.learner, folder, workers, pool)
        self.data, self.near = found.training, found.near
        if settings.batch_size > self.data.rows and self.is_first:
            _LOG.warning(
                "--batch-size %d is more than there are rows (%d) in %s: a batch has all of them",
                settings.batch_size,
                self.data.rows,
                settings.input,
            )
        network = self.learner.network
        self.start: Weights | None = self.learner.whole() if settings.interpolate else None
        parts = {"image": settings.image_rate, "text": settings.text_rate, "temperature": settings.temperature_rate}
        self.optimiser = make_optimiser(network, Rates(settings.learning_rate, parts), settings.weight_decay)
        self.weights = trained(self.optimiser)
        self.average = Average(network, settings.average) if settings.average else None
        self.history = History()
        self.best: Best | None = None
        self.done = self._go_on()
        self.examiner: Examiner | None = None
        if found.held_out is not None:
            self.examiner = Examiner(self.learner, found.held_out, pool, self.history, told.validation)

    @property
    def is_first(self) -> bool:
        """Whether this worker speaks and writes for all."""
        return self.workers.rank == 0

    def _go_on(self) -> int:
        """Takes over the last checkpoint; returns how many steps are done."""
        progress = load_progress(self.folder)
        if progress is None:
            return 0
        self.learner.network.load_state_dict(progress.network)
        self.optimiser.load_state_dict(progress.optimiser)
        if self.average and progress.average:
            self.average.weights = {name: tensor.to(self.learner.device) for name, tensor in progress.average.items()}
        self.history, self.best = progress.history, progress.best
        return progress.step

    def train(self, dataset: Location) -> ModelRecord | None:
        """The steps that are left, and the model at the end."""
        settings, first = self.settings, self.done
        began = saved = time.monotonic()
        before, images = self.history.seconds, 0
        sampling = Sampling(
            settings.batch_size,
            settings.seed,
            settings.negative_share,
            settings.hard_negatives == "words",
            self.augmentation,
        )
        coming = ahead(batches(self.data, sampling, first, self.pool, self.workers.rank, self.workers.count))
        while self.done < settings.steps and not self._gives_up():
            loss, norm, taken = self._step(next(coming))
            images += taken
            self.done += 1
            now = time.monotonic()
            self.history.seconds = before + now - began
            self._note(Step(self.done, settings.steps, loss, norm, images, now - began))
            if self.examiner and self.done % settings.validate_every == 0 and self.done < settings.steps:
                self._validate(self.examiner)
            if self._is_time_to_save(now - saved):
                self._save()
                saved = time.monotonic()
        coming.close()
        return self._finish(dataset) if self.is_first else None

    def _step(self, batch: Batch) -> tuple[float, float, int]:
        """One step over all workers' parts: its loss, the length of its gradient, and the images in it."""
        learner, settings, step = self.learner, self.settings, self.done
        learner.learning()
        statistics = running_statistics(learner.network)
        parts = self.workers.tell(batch.part)
        self.optimiser.zero_grad(set_to_none=True)
        loss = learner.backward(step, batch, parts, self.workers, statistics)
        sum_gradients(self.weights, self.workers)
        norm = clip_gradients(self.weights)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise self._no_number(loss, norm)
        share = learning_rate_at(step, settings.steps, settings.warmup_steps, 1.0)
        move(learner.network, self.optimiser, share)
        self._share_statistics(statistics)
        if self.average:
            self.average.update(learner.network)
        return loss, norm, sum(len(part.texts) for part in parts)

    def _share_statistics(self, statistics: Sequence[torch.Tensor]) -> None:
        """Replaces what batch normalisation saw on each worker by the mean, so that all go on from the same."""
        if self.workers.count > 1:
            means = [tensor for tensor in statistics if tensor.is_floating_point()]
            self.workers.sum(means)
            for tensor in means:
                tensor.div_(self.workers.count)

    def _no_number(self, loss: float, norm: float) -> RunFailed:
        size = min(self.settings.batch_size, self.data.rows)
        epoch, batch = divmod(self.done, self.data.rows // size)
        what = f"loss of step {self.done + 1} is {loss}"
        if math.isfinite(loss):
            what = f"gradient of step {self.done + 1} is {norm}"
        return RunFailed(
            f"the {what} (batch {batch + 1} of epoch {epoch + 1}); the last checkpoint is kept, but the same command would "
            "end here again: try a lower --learning-rate, with --overwrite"
        )

    def _note(self, step: Step) -> None:
        """Tells of a step, and records every twentieth."""
        if not self.is_first:
            return
        if step.step % _LOSS_EVERY == 0 or step.step == step.steps:
            self.history.losses.append(
                {
                    "step": step.step,
                    "loss": round(step.loss, 4),
                    "gradient_norm": round(step.gradient_norm, 4),
                    **self.learner.measures(),
                    "images_per_second": round(step.images_per_second, 1),
                }
            )
        self.told.step(step)

    def _is_time_to_save(self, seconds: float) -> bool:
        if not self.is_first:
            return False
        every = self.settings.checkpoint_every
        due = self.done % every == 0 if every else seconds > _SECONDS_BETWEEN_CHECKPOINTS
        return due or self.done == self.settings.steps

    def _save(self) -> None:
        save_progress(
            self.folder,
            Progress(
                self.done,
                self.learner.trained(),
                self.optimiser.state_dict(),
                self.history,
                self.average.weights if self.average else None,
                self.best,
            ),
        )
        self.told.checkpoint()

    def _validate(self, examiner: Examiner) -> None:
        """Validates on the first worker, and where it may end the run, lets all know what came of it."""
        best = self.best
        if self.is_first:
            with self._averaged():
                found = examiner.validate(self.done)
                if self.settings.stop_after:
                    best = examiner.better(best, found, self.done)
        if self.settings.stop_after:
            waited, step = self.workers.tell((best.waited, best.step) if best else (0, 0))[0]
            self.best = best if self.is_first else Best(step, {}, [], waited)

    def _gives_up(self) -> bool:
        return bool(self.settings.stop_after and self.best and self.best.waited >= self.settings.stop_after)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """For the length of the block the network has the averaged weights, where an average is kept."""
        if self.average is None:
            yield
            return
        network = self.learner.network
        kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(self.average.weights)
        yield
        network.load_state_dict(kept)

    def _finish(self, dataset: Location) -> ModelRecord:
        """Takes the weights to be saved, measures them as they are saved, and writes the model."""
        network, settings = self.learner.network, self.settings
        if self._gives_up() and self.best:
            network.load_state_dict(self.best.weights)
        elif self.average:
            network.load_state_dict(self.average.weights)
        weights = self.learner.whole()
        if self.start is not None and settings.interpolate and self.examiner:
            weights = self.examiner.mixed(self.start, weights, settings.interpolate, self.done)
        if settings.weights_precision == "fp16":
            weights = {
                name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()
            }
        self.learner.fill(weights)
        if self.examiner:
            self.examiner.last(self.done)
        self.learner.write(dataset, weights)
        return ModelRecord(**self._record())

    def _record(self) -> dict[str, Any]:
        weights = self.learner.network.named_parameters()
        return {
            "configuration": Training(self.settings).configuration,
            "model": self.learner.name,
            "parameters": sum(weight.numel() for name, weight in weights if "lora_" not in name),
            "trained_parameters": sum(weight.numel() for weight in self.weights),
            "rows": self.data.rows,
            "near_duplicates_left_out": self.near,
            "steps_done": self.done,
            **self.learner.measures(),
            **vars(self.history),
            "workers": self.workers.count,
            "threads": torch.get_num_threads(),
            "software": environment.software(),
            "hardware": environment.hardware(),
        }
