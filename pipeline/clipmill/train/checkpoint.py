"""What a training run leaves: a checkpoint to continue from, and at the end a folder in open_clip's local-dir layout."""

import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.settings import TrainSettings
from clipmill.encoders.names import CONFIG_FILE
from clipmill.encoders.source import ModelSource
from clipmill.stage.kinds import Kind
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Stage, configuration_differences
from clipmill.storage import Location

WEIGHTS_FILE = "open_clip_model.safetensors"
RECORD_FILE = "training.json"
_CHECKPOINT = "checkpoint.pt"
_FINISHED = "finished.json"


@dataclass
class History:
    """What was measured on the way: entries with their ``step``, and seconds over all starts of the run."""

    losses: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    share: float | None = None
    """Of the trained weights in those that are saved, where mixtures with the starting ones were measured."""


@dataclass
class Progress:
    """Where a run stands: ``step`` steps are done. ``average`` are the averaged weights and ``best`` those of the best
    validation, where they are kept; ``waited`` is how many validations in a row did not improve on it.

    What is drawn at random follows from the seed and the step, so no state of a generator is needed to go on.
    """

    step: int
    network: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    history: History
    average: dict[str, torch.Tensor] | None = None
    best: "Best | None" = None


@dataclass
class Best:
    """The best validation so far: its step, its weights, and for each image the share of its captions that found it.
    ``waited``: validations in a row since then that were not better."""

    step: int
    weights: dict[str, torch.Tensor]
    hits: list[float]
    waited: int = 0


class ModelRecord(BaseModel):
    """``training.json``: the settings, the data, what was measured on the way, and where it ran."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    configuration: dict[str, Any]


def _read(output: Location) -> ModelRecord:
    try:
        return ModelRecord.model_validate_json(storage.read_bytes(output / RECORD_FILE))
    except ValidationError:
        raise UserError(
            f"{output / RECORD_FILE} is not the record of a training run; choose another --output, or add --overwrite to "
            "replace what is there once the new model is complete"
        ) from None


WRITER_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""What transformers may save of a model that writes and of its processor."""
_OWN = {CONFIG_FILE, WEIGHTS_FILE, RECORD_FILE, *WRITER_FILES}

MODEL = Kind("model", RECORD_FILE, _read, owns=_OWN.__contains__)


@dataclass(frozen=True)
class Training(Stage[ModelRecord]):
    """A model to be trained."""

    name = "train"
    kind = MODEL
    settings: TrainSettings

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """The settings that decide the outcome, as JSON types."""
        return self.settings.content()

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the outcome."""
        return {"stage": self.name, "settings": self.configuration}

    def differences(self, found: ModelRecord) -> list[str]:
        """How a model at the output was trained otherwise, in words."""
        unset = dict.fromkeys(self.settings.LATER)
        before = {**self.settings.content_before(), **found.configuration}
        return configuration_differences(before, {**unset, **self.configuration})

    @property
    def outline(self) -> Outline:
        """Steps up to the last checkpoint are done."""
        files = {_CHECKPOINT: 1}
        return Outline(stage=self.name, steps=(Step(doing="training, from a checkpoint", total=None, files=files),))


def save_progress(folder: Location, progress: Progress) -> None:
    """Replaces the checkpoint in the staging folder, whole or not at all."""
    stream = io.BytesIO()
    best = vars(progress.best) if progress.best else None
    torch.save({**vars(progress), "history": vars(progress.history), "best": best}, stream)
    storage.write_bytes(folder / _CHECKPOINT, stream.getvalue())


def load_progress(folder: Location) -> Progress | None:
    """What earlier starts did, None when nothing. Raises RunFailed for a checkpoint that is damaged."""
    location = folder / _CHECKPOINT
    if not storage.exists(location):
        return None
    try:
        saved = torch.load(io.BytesIO(storage.read_bytes(location)), weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, pickle.UnpicklingError):
        raise RunFailed(f"{location} is damaged; delete it to start the training afresh") from None
    best = Best(**saved["best"]) if saved["best"] else None
    return Progress(**{**saved, "history": History(**saved["history"]), "best": best})


def note_finished(folder: Location, record: ModelRecord) -> None:
    """Leaves the record in the staging folder, once the model beside it is whole: a worker may have made both."""
    storage.write_bytes(folder / _FINISHED, record.model_dump_json().encode())


def finished_record(folder: Location) -> ModelRecord | None:
    """The record of a model that is whole and only has to be published; None while there is none."""
    try:
        return ModelRecord.model_validate_json(storage.read_bytes(folder / _FINISHED))
    except FileNotFoundError:
        return None


def write_model(folder: Location, source: ModelSource, weights: Mapping[str, torch.Tensor]) -> None:
    """Configuration and weights, which open_clip loads as ``local-dir:`` and `embed` as --pretrained."""
    config: dict[str, Any] = {"model_cfg": source.config, "preprocess_cfg": source.preprocess}
    if source.merges is not None:
        config["tokenizer_merges"] = source.merges
    if source.sounds is not None:
        config["sounds"] = source.sounds
    tensors = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
    storage.write_bytes(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
    storage.write_bytes(folder / WEIGHTS_FILE, safetensors.torch.save(tensors))
