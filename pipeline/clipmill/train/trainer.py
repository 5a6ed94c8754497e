"""A training run: from fresh or given weights, over batches, to a published model; continued where it was stopped."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from clipmill.core import environment
from clipmill.core.errors import RunFailed
from clipmill.core.settings import ModelSettings, TrainSettings
from clipmill.encoders.model import build_network, load_weights, preprocessing_of
from clipmill.encoders.source import find_model
from clipmill.encoders.text import encode_tokens, without_padding
from clipmill.encoders.tokenizer import load_tokenizer
from clipmill.encoders.tokens import Tokenizer
from clipmill.stage.stage import Made, Work
from clipmill.storage import Location
from clipmill.train.batches import Batch, Source, ahead, batches, examples
from clipmill.train.checkpoint import (
    History,
    ModelRecord,
    Progress,
    Training,
    load_progress,
    save_progress,
    write_model,
)
from clipmill.train.loss import info_nce
from clipmill.train.optimise import learning_rate_at, make_optimiser, move
from clipmill.train.validate import Validation, validate

_DECODERS = 4
_VALIDATION_IMAGES = 1000
_FINAL_VALIDATION_IMAGES = 5000
_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_LOSS_EVERY = 20


@dataclass(frozen=True)
class Step:
    """What is reported after a step; ``step`` counts from 1, ``loss`` is nats, ``seconds`` are those of this start."""

    step: int
    steps: int
    loss: float
    images: int
    seconds: float
    seconds_left: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


Report = Callable[[Step], None]
ReportValidation = Callable[[int, Validation], None]


def train(settings: TrainSettings, report: Report, report_validation: ReportValidation) -> Made[ModelRecord]:
    """Trains and publishes a model.

    A run that was stopped goes on from its last checkpoint and ends with the weights it would have had. The outcome is
    decided by the settings and the data alone, on one kind of machine with one number of threads. Raises UserError for
    a mistake in the settings or the input, RunFailed when the loss is no longer a number.
    """

    def work(work: Work) -> ModelRecord:
        work.start()
        with ThreadPoolExecutor(_DECODERS) as pool:
            return _Run(settings, pool).train(work, report, report_validation)

    return Training(settings).run(work)


class _Run:
    """The network, its data and its optimiser for the length of a run."""

    def __init__(self, settings: TrainSettings, pool: ThreadPoolExecutor) -> None:
        self.settings, self.pool = settings, pool
        self.source = find_model(_model_settings(settings), trained=settings.pretrained is not None)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(settings.seed)
        self.network = build_network(self.source)
        if self.source.weights is not None:
            load_weights(self.network, self.source)
        preprocessing = preprocessing_of(self.network, self.source)
        self.preprocessing = preprocessing
        self.tokenizer: Tokenizer = load_tokenizer(self.source)
        reads = (settings.image_column, settings.caption_column, settings.allow_outside or ())
        self.data = Source.open(settings.input, preprocessing, *reads)
        self.held_out = Source.open(settings.validation, preprocessing, *reads) if settings.validation else None
        self.network.to(device=self.device)
        self.network.to(memory_format=torch.channels_last)  # half as much time again for convolutions
        self.optimiser = make_optimiser(self.network, settings.learning_rate, settings.weight_decay)
        self.history = History()

    def train(self, work: Work, report: Report, report_validation: ReportValidation) -> ModelRecord:
        settings, first, progress = self.settings, 0, load_progress(work.folder)
        if progress is not None:
            self.network.load_state_dict(progress.network)
            self.optimiser.load_state_dict(progress.optimiser)
            first, self.history = progress.step, progress.history
        started = saved = time.monotonic()
        before = self.history.seconds
        images = 0
        coming = ahead(
            batches(self.data, settings.batch_size, settings.negative_share, settings.seed, first, self.pool)
        )
        for step in range(first, settings.steps):
            batch = next(coming)
            loss = self._step(step, batch)
            images += len(batch.texts)
            now = time.monotonic()
            self.history.seconds = before + now - started
            done = step + 1
            if done % _LOSS_EVERY == 0 or done == settings.steps:
                self.history.losses.append({"step": done, "loss": round(loss, 4)})
            left = (now - started) / (done - first) * (settings.steps - done)
            report(Step(done, settings.steps, loss, images, now - started, left))
            if self.held_out is not None and done % settings.validate_every == 0 and done < settings.steps:
                report_validation(done, self._validate(done, _VALIDATION_IMAGES))
            if now - saved > _SECONDS_BETWEEN_CHECKPOINTS or done == settings.steps:
                save_progress(work.folder, self._progress(done))
                work.lease.check()
                saved = time.monotonic()
        coming.close()
        self._finish(work.dataset, report_validation)
        return ModelRecord(**self._record())

    def _step(self, step: int, batch: Batch) -> float:
        torch.manual_seed(self.settings.seed * 1_000_003 + step)
        self.network.train()
        count = len(batch.texts)
        with self._autocast():
            images = self.network.encode_image(self._pixels(batch.pixels))  # type: ignore[operator]
            texts = encode_tokens(self.network, self._tokens(batch.texts + batch.negatives))
        images, texts = (F.normalize(features.float(), dim=-1) for features in (images, texts))
        scale = self.network.logit_scale.exp()  # type: ignore[operator]
        loss = info_nce(images, texts[:count], scale, texts[count:], batch.also_true.to(self.device))
        if not torch.isfinite(loss):
            raise RunFailed(f"the loss of step {step + 1} is {loss.item()}; try a lower --learning-rate")
        settings = self.settings
        rate = learning_rate_at(step, settings.steps, settings.warmup_steps, settings.learning_rate)
        move(self.network, self.optimiser, loss, rate)
        return float(loss.detach())

    def _validate(self, step: int, limit: int) -> Validation:
        assert self.held_out is not None
        self.network.eval()
        with torch.inference_mode():
            found = validate(
                examples(self.held_out, self.pool, limit),
                lambda pixels: self._unit(self.network.encode_image, self._pixels(pixels)),  # type: ignore[arg-type]
                lambda texts: self._unit(partial(encode_tokens, self.network), self._tokens(texts)),
            )
        self.history.validations.append({"step": step, **found.as_dict()})
        return found

    def _finish(self, folder: Location, report_validation: ReportValidation) -> None:
        half = self.settings.weights_precision == "fp16"
        weights = {
            name: tensor.cpu().half() if half and tensor.is_floating_point() else tensor.cpu()
            for name, tensor in self.network.state_dict().items()
        }
        self.network.load_state_dict(weights)
        if self.held_out is not None:
            for limit in (_VALIDATION_IMAGES, _FINAL_VALIDATION_IMAGES):
                if limit == _VALIDATION_IMAGES or self.held_out.rows > _VALIDATION_IMAGES:
                    report_validation(self.settings.steps, self._validate(self.settings.steps, limit))
        write_model(folder, self.source, weights)

    def _record(self) -> dict[str, Any]:
        return {
            "configuration": Training(self.settings).configuration,
            "model": self.source.name,
            "parameters": sum(weight.numel() for weight in self.network.parameters()),
            "rows": self.data.rows,
            "logit_scale": round(float(self.network.logit_scale.exp()), 4),  # type: ignore[operator]
            **vars(self.history),
            "threads": torch.get_num_threads(),
            "software": environment.software(),
            "hardware": environment.hardware(),
        }

    def _progress(self, step: int) -> Progress:
        return Progress(step, self.network.state_dict(), self.optimiser.state_dict(), self.history)

    def _pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        prepared = self.preprocessing.normalise(pixels.to(self.device))
        return prepared.contiguous(memory_format=torch.channels_last)

    def _tokens(self, texts: Sequence[str]) -> torch.Tensor:
        return without_padding(self.network, self.tokenizer(list(texts))).to(self.device)

    def _unit(self, encode: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            features = encode(inputs)
        return F.normalize(features.float(), dim=-1).cpu()

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", dtype=torch.bfloat16) if self.device.type == "cuda" else nullcontext()


def _model_settings(settings: TrainSettings) -> ModelSettings:
    return ModelSettings(model=settings.model, pretrained=settings.pretrained, preprocessing=settings.preprocessing)
