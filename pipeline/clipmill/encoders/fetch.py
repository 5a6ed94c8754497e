"""Brings the weights of a model to this machine, with the tokenizer that it needs: into the caches that all commands read, or
into a folder that can be carried to a machine without network."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders.hub import fetch_file, files_of
from clipmill.encoders.library import OPEN_CLIP, Place, find_place, refuse_unusable_model
from clipmill.encoders.names import BUILTIN, BUILTIN_FOLDERS, CONFIG_FILE

Tell = Callable[[str], object]
_HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "config.json",
    "added_tokens.json",
)
_WEIGHTS = "open_clip_model"


@dataclass(frozen=True)
class Fetched:
    """Files that are on this machine now, and the options that name the model from then on."""

    files: tuple[Path, ...]
    options: str


def fetch_model(model: str, pretrained: str | None, output: Path | None, tell: Tell) -> Fetched:
    """Fetches a model: of open_clip by name and tag, or ``transformers:ORG/NAME``, ``sentence-transformers:ORG/NAME``.

    Raises UserError where there is nothing to fetch, or no such model; else as `fetch_file` does.
    """
    settings = ModelSettings(model=model, pretrained=pretrained)
    if model == BUILTIN:
        raise UserError("the built-in model comes with clipmill; leave --model out to use it")
    if model in BUILTIN_FOLDERS and pretrained is None:
        raise UserError(f"{model} comes with clipmill; type: --model {model}")
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output} is there already, and is not replaced; give a new folder")
    refuse_unusable_model(settings)
    place = find_place(settings)
    if place.library == OPEN_CLIP and place.folder is None:
        return _open_clip(model, pretrained, output, tell)
    if not place.repository:
        raise UserError(f"{model} is on this machine already; type: --model {model}")
    return _from_hub(model, place, output, tell)


def _from_hub(model: str, place: Place, output: Path | None, tell: Tell) -> Fetched:
    names = [
        name
        for name in files_of(place.repository, place.revision, _HUB_FILES)
        if not name.startswith(("onnx/", "openvino/"))
    ]
    files = {name: fetch_file(place.repository, name, place.revision, tell) for name in names}
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(
            f"{place.repository} has no weights as safetensors, and others are not loaded; type: clipmill models"
        )
    if output is None:
        pinned = f" --pretrained {place.revision}" if place.revision else ""
        return Fetched(tuple(files.values()), f"--model {model}{pinned}")
    for name, path in files.items():
        _copy(path, output / name)
    return Fetched(tuple(output / name for name in files), f"--model {place.library}:{output}")


def _open_clip(model: str, pretrained: str | None, output: Path | None, tell: Tell) -> Fetched:
    from open_clip.pretrained import get_pretrained_cfg

    from clipmill.encoders.source import find_model

    tag = get_pretrained_cfg(model, pretrained) if pretrained else None
    repository, _, name = str(tag.get("hf_hub", "") if tag else "").rpartition("/")
    files = [_weights(repository, name, tell)] if repository else []
    source = find_model(ModelSettings(model=model, pretrained=pretrained))
    hub_tokenizer = source.config["text_cfg"].get("hf_tokenizer_name")
    tokenizer = {}
    if hub_tokenizer:
        for one in files_of(hub_tokenizer, None, _TOKENIZER_FILES):
            tokenizer[one] = fetch_file(hub_tokenizer, one, None, tell)
    assert source.weights is not None
    if output is None:
        return Fetched(
            (*(files or [source.weights]), *tokenizer.values()), f"--model {model} --pretrained {pretrained}"
        )
    weights = (
        output / f"{_WEIGHTS}.safetensors"
        if source.weights.suffix == ".safetensors"
        else output / "open_clip_pytorch_model.bin"
    )
    _copy(source.weights, weights)
    for one, path in tokenizer.items():
        _copy(path, output / one)
    (output / CONFIG_FILE).write_text(_described(source.config, source.preprocess), encoding="utf-8")
    return Fetched((weights, *(output / one for one in tokenizer)), f"--model {model} --pretrained {output}")


def _weights(repository: str, name: str, tell: Tell) -> Path:
    """The weights as open_clip looks for them: as safetensors where they are there."""
    names = files_of(repository, None, ["*.safetensors", "*.bin", "*.pt", "*.pth"])
    stem = name.rpartition(".")[0] if name else _WEIGHTS
    wanted = [f"{stem}.safetensors", name or "open_clip_pytorch_model.bin"]
    chosen = next((one for one in wanted if one in names), wanted[-1])
    return fetch_file(repository, chosen, None, tell)


def _described(config: dict[str, Any], preprocess: dict[str, Any]) -> str:
    return json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2, default=list) + "\n"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source.resolve(), target)
