"""What a training run leaves: a checkpoint to continue from, and at the end a folder in open_clip's local-dir layout."""

import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.settings import TrainSettings
from clipmill.encoders.source import CONFIG_FILE, ModelSource
from clipmill.storage import Location

WEIGHTS_FILE = "open_clip_model.safetensors"
RECORD_FILE = "training.json"


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


def configuration(settings: TrainSettings) -> dict[str, Any]:
    """The settings that decide the outcome, as JSON types."""
    return settings.model_dump(mode="json", exclude={"output", "overwrite"})


def checkpoint_of(output: Location) -> Location:
    """The file that an unfinished run continues from, beside the output."""
    return output.sibling(f".{output.name}.checkpoint")


def save_progress(output: Location, settings: TrainSettings, progress: Progress) -> None:
    """Replaces the checkpoint, whole or not at all."""
    stream = io.BytesIO()
    torch.save({"configuration": configuration(settings), **vars(progress), "history": vars(progress.history)}, stream)
    storage.write_bytes(checkpoint_of(output), stream.getvalue())


def load_progress(output: Location, settings: TrainSettings) -> Progress | None:
    """What the same command has done so far, None when nothing.

    Raises UserError when another command left the checkpoint and ``overwrite`` is not set.
    """
    location = checkpoint_of(output)
    if not storage.exists(location):
        return None
    try:
        saved = torch.load(io.BytesIO(storage.read_bytes(location)), weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, pickle.UnpicklingError):
        raise RunFailed(f"{location} is damaged; delete it to start the training afresh") from None
    differing = _differences(saved.pop("configuration"), configuration(settings))
    if not differing:
        return Progress(**{**saved, "history": History(**saved["history"])})
    if settings.overwrite:
        return None
    raise UserError(
        f"{location} is the checkpoint of an unfinished run with other settings ({differing}); "
        "repeat that command to finish it, choose another --output, or add --overwrite to start afresh"
    )


def is_complete(output: Location, settings: TrainSettings) -> bool:
    """Whether the same command has finished. Raises UserError when the output is something else to be kept."""
    if not storage.holds_only(output, lambda name: name in (CONFIG_FILE, WEIGHTS_FILE, RECORD_FILE)):
        return False
    try:
        saved = json.loads(storage.read_bytes(output / RECORD_FILE))["configuration"]
    except (OSError, ValueError, KeyError):
        saved = None
    differing = "it is not a training run" if saved is None else _differences(saved, configuration(settings))
    if differing and not settings.overwrite:
        raise UserError(
            f"{output} already exists, with other settings ({differing}); "
            "choose another --output, or add --overwrite to replace it once the new model is complete"
        )
    return not differing


def publish_model(
    output: Location, source: ModelSource, weights: Mapping[str, torch.Tensor], record: Mapping[str, Any]
) -> None:
    """The finished folder in place of ``output``, which open_clip loads as ``local-dir:`` and `embed` as --pretrained."""
    staging = storage.staging_of(output)
    storage.remove(staging)
    storage.make_folder(staging)
    config: dict[str, Any] = {"model_cfg": source.config, "preprocess_cfg": source.preprocess}
    if source.merges is not None:
        config["tokenizer_merges"] = source.merges
    tensors = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
    storage.write_bytes(staging / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
    storage.write_bytes(staging / WEIGHTS_FILE, safetensors.torch.save(tensors))
    storage.write_bytes(staging / RECORD_FILE, (json.dumps(record, indent=2) + "\n").encode())
    storage.publish(staging, output, last=RECORD_FILE)
    storage.remove(checkpoint_of(output))


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [name for name in wanted if saved.get(name) != wanted[name]]
    return ", ".join(f"{name.replace('_', '-')}: {saved.get(name)} there, {wanted[name]} here" for name in names)
