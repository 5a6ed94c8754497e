"""Which model a user means: its architecture, its weights, and the preprocessing those were trained with."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders.names import (
    BUILTIN,
    BUILTIN_FOLDERS,
    CONFIG_FILE,
    LOCAL_DIR,
    nearest_first,
    refuse_unknown_model,
)

_WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class ModelSource:
    """A model that is there to be loaded.

    ``config`` is open_clip's model configuration, ``preprocess`` its preprocessing values, ``weights`` None for an
    untrained model, ``folder`` the one in open_clip's local-dir layout that the model comes from, if any, ``merges``
    the number of vocabulary merges where the tokenizer is cut, ``sounds`` the settings of the spectrograms that the image
    tower sees, if it hears.
    """

    name: str
    pretrained: str
    config: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path | None
    folder: Path | None = None
    merges: int | None = None
    sounds: dict[str, Any] | None = None


def find_model(
    settings: ModelSettings, *, trained: bool = True, preprocess: dict[str, Any] | None = None
) -> ModelSource:
    """The model that ``--model`` and ``--pretrained`` name; with ``trained=False`` it need not have weights.

    ``preprocess`` is given where the preprocessing is known already, so that it need not be found out.

    Raises UserError for a name or tag that open_clip does not know, a missing file, weights whose preprocessing is not
    known, and weights trained with another activation (QuickGELU) than the named model has.
    """
    name, pretrained = settings.model, settings.pretrained
    if name and name.startswith(LOCAL_DIR):
        name, pretrained = None, name
    builtin = BUILTIN_FOLDERS.get(name or BUILTIN)
    if builtin and (pretrained is None or pretrained == str(builtin)):
        return _from_folder(builtin, name or BUILTIN, "", trained=trained)
    if builtin:
        return _from_path_alone(str(pretrained), name)
    assert name is not None
    if not trained and not pretrained and _is_folder(name) and _folder_of(name):
        return _from_folder(Path(name).expanduser(), name, "", trained=False)
    if pretrained and _folder_of(pretrained) and (_is_folder(pretrained) or name not in open_clip.list_models()):
        return _from_path_alone(pretrained, name)
    config = _known_config(name)
    if not pretrained and not trained:
        return ModelSource(name, "", config, _common_preprocessing(name, settings.preprocessing, "--model"), None)
    if not pretrained:
        raise UserError(f"--model {name} needs weights: --pretrained with a checkpoint file or one of {_tags(name)}")
    tag = get_pretrained_cfg(name, pretrained)
    if tag:
        _check_activation(name, pretrained, config, tag)
        preprocess = preprocess or _preprocessing_of(tag)
        if settings.preprocessing:
            preprocess = _named_preprocessing(name, settings.preprocessing)
        return ModelSource(name, pretrained, config, preprocess, _download(name, pretrained, tag))
    weights = _weights_in(Path(pretrained.removeprefix(LOCAL_DIR)).expanduser())
    if weights is None:
        raise UserError(
            f"--pretrained {pretrained} is neither a file nor a tag of {name}; open_clip has {_tags(name, pretrained)}"
        )
    if preprocess is None:
        preprocess = _preprocessing_for_file(name, weights, settings.preprocessing)
    return ModelSource(name, str(weights.resolve()), config, preprocess, weights)


def _from_path_alone(pretrained: str, name: str | None) -> ModelSource:
    folder = _folder_of(pretrained)
    if folder is None:
        path = Path(pretrained.removeprefix(LOCAL_DIR))
        if not path.exists():
            raise UserError(f"--pretrained {pretrained}: there is no such file or folder (a tag also needs --model)")
        raise UserError(f"--pretrained {pretrained} has no {CONFIG_FILE} beside it: say its architecture with --model")
    return _from_folder(folder, name or folder.name, f"{LOCAL_DIR}{folder.resolve()}")


def _is_folder(pretrained: str) -> bool:
    return Path(pretrained.removeprefix(LOCAL_DIR)).expanduser().is_dir()


def _folder_of(pretrained: str) -> Path | None:
    path = Path(pretrained.removeprefix(LOCAL_DIR)).expanduser()
    folder = path if path.is_dir() else path.parent
    return folder if path.exists() and (folder / CONFIG_FILE).is_file() else None


def _from_folder(folder: Path, name: str, pretrained: str, *, trained: bool = True) -> ModelSource:
    config = _read_config(folder)
    weights = _weights_in(folder) if trained else None
    if weights is None and trained:
        raise UserError(f"{folder} has {CONFIG_FILE} but no weights (one of {', '.join(_WEIGHT_FILES)})")
    preprocess = merge_preprocess_dict(PreprocessCfg(), config.get("preprocess_cfg", {}))
    return ModelSource(
        name,
        pretrained,
        config["model_cfg"],
        preprocess,
        weights,
        folder,
        config.get("tokenizer_merges"),
        config.get("sounds"),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / CONFIG_FILE} is not JSON: {error}") from None
    if "model_cfg" not in config:
        raise UserError(f"{folder / CONFIG_FILE} has no `model_cfg`, so it is not an open_clip configuration")
    return config


def _weights_in(path: Path) -> Path | None:
    if path.is_file():
        return path
    return next((path / name for name in _WEIGHT_FILES if (path / name).is_file()), None)


def _known_config(name: str) -> dict[str, Any]:
    config: dict[str, Any] | None = open_clip.get_model_config(name)
    if config is None:
        refuse_unknown_model(name)
        raise UserError(f"--model {name} is not a model that open_clip knows")
    return config


def _tags(name: str, wanted: str = "") -> str:
    """The tags of a model in words, those first that are like the one that was wanted."""
    tags = nearest_first(wanted, list_pretrained_tags_by_model(name))
    return f"the tags {', '.join(tags)}" if tags else "no tags for it"


def _check_activation(name: str, pretrained: str, config: dict[str, Any], tag: dict[str, Any]) -> None:
    trained, built = bool(tag.get("quick_gelu")), bool(config.get("quick_gelu"))
    right = f"{name}-quickgelu" if trained else name.removesuffix("-quickgelu")
    if trained != built and right != name and right in open_clip.list_models():
        raise UserError(
            f"--model {name} --pretrained {pretrained}: these weights were trained {'with' if trained else 'without'} "
            f"QuickGELU, so they belong to --model {right}"
        )


def _preprocessing_of(tag: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = merge_preprocess_dict(PreprocessCfg(), tag)
    return result


def _named_preprocessing(name: str, wanted: str) -> dict[str, Any]:
    folder = _folder_of(wanted)
    if folder is not None:
        result: dict[str, Any] = merge_preprocess_dict(PreprocessCfg(), _read_config(folder).get("preprocess_cfg", {}))
        return result
    tag = get_pretrained_cfg(name, wanted)
    if not tag:
        raise UserError(
            f"--preprocessing {wanted} is neither an {CONFIG_FILE} nor a tag of {name}: {_tags(name, wanted)}"
        )
    return _preprocessing_of(tag)


def _preprocessing_for_file(name: str, weights: Path, wanted: str | None) -> dict[str, Any]:
    if not wanted and (weights.parent / CONFIG_FILE).is_file():
        result: dict[str, Any] = merge_preprocess_dict(
            PreprocessCfg(), _read_config(weights.parent).get("preprocess_cfg", {})
        )
        return result
    return _common_preprocessing(name, wanted, f"--pretrained {weights}")


def _common_preprocessing(name: str, wanted: str | None, option: str) -> dict[str, Any]:
    """open_clip gives every checkpoint file CLIP's preprocessing, whatever the model: here the weights that are
    published for the model decide, and where they disagree the user does."""
    if wanted:
        return _named_preprocessing(name, wanted)
    by_values: dict[str, list[str]] = {}
    for tag in list_pretrained_tags_by_model(name):
        values = _preprocessing_of(get_pretrained_cfg(name, tag))
        by_values.setdefault(json.dumps(values, sort_keys=True), []).append(tag)
    if len(by_values) > 1:
        groups = "; or ".join(", ".join(tags) for tags in by_values.values())
        raise UserError(
            f"{option}: the published weights of {name} were trained with different preprocessing, so say with "
            f"--preprocessing which one is meant: that of {groups}"
        )
    if by_values:
        values = json.loads(next(iter(by_values)))
        return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    result: dict[str, Any] = merge_preprocess_dict(PreprocessCfg(), {})
    return result


def _download(name: str, pretrained: str, tag: dict[str, Any]) -> Path:
    try:
        with quiet():
            return Path(download_pretrained(tag))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--model {name} --pretrained {pretrained}: the weights could not be downloaded ({reason}); with no network, "
            "give --pretrained the path of a checkpoint file"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """open_clip warns on the root logger about what is checked here; nothing of that reaches the user."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
