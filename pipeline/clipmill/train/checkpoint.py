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


@dataclass
class History:
    """What was measured on the way: entries with their ``step``, and seconds over all starts of the run."""

    losses: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Progress:
    """Where a run stands: ``step`` steps are done."""

    step: int
    network: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    history: History


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


MODEL = Kind("model", RECORD_FILE, _read, owns=lambda name: name in (CONFIG_FILE, WEIGHTS_FILE, RECORD_FILE))


@dataclass(frozen=True)
class Training(Stage[ModelRecord]):
    """A model to be trained."""

    name = "train"
    kind = MODEL
    settings: TrainSettings

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """The settings that decide the outcome, as JSON types."""
        return {name: value for name, value in self.settings.recorded().items() if name not in ("output", "overwrite")}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the outcome."""
        return {"stage": self.name, "settings": self.configuration}

    def differences(self, found: ModelRecord) -> list[str]:
        """How a model at the output was trained otherwise, in words."""
        unset = dict.fromkeys(self.settings.LATER)
        return configuration_differences(found.configuration, {**unset, **self.configuration})

    @property
    def outline(self) -> Outline:
        """Steps up to the last checkpoint are done."""
        files = {"checkpoint.pt": 1}
        return Outline(stage=self.name, steps=(Step(doing="training, from a checkpoint", total=None, files=files),))


def save_progress(folder: Location, progress: Progress) -> None:
    """Replaces the checkpoint in the staging folder, whole or not at all."""
    stream = io.BytesIO()
    torch.save({**vars(progress), "history": vars(progress.history)}, stream)
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
    return Progress(**{**saved, "history": History(**saved["history"])})


def write_model(folder: Location, source: ModelSource, weights: Mapping[str, torch.Tensor]) -> None:
    """Configuration and weights, which open_clip loads as ``local-dir:`` and `embed` as --pretrained."""
    config: dict[str, Any] = {"model_cfg": source.config, "preprocess_cfg": source.preprocess}
    if source.merges is not None:
        config["tokenizer_merges"] = source.merges
    tensors = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
    storage.write_bytes(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
    storage.write_bytes(folder / WEIGHTS_FILE, safetensors.torch.save(tensors))
