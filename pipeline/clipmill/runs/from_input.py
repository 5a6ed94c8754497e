"""`clipmill run` of an input in place of a run file: a run file with good defaults, made in memory.

What it stands for is the text of a run file, which is read as any other: there is one way to run, and this is how it begins.
"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import ClusterSettings, ModelSettings, RunSettings
from clipmill.core.settings.base import flag_of
from clipmill.datasets.manifests import Embeddings
from clipmill.encoders.library import refuse_unusable_model
from clipmill.encoders.names import BUILTIN, BUILTIN_FOLDERS, LOCAL_DIR, known_models
from clipmill.runs.beside import FILE_SUFFIXES, output_for
from clipmill.runs.mistaken import medium_of_input
from clipmill.runs.run_file import RunFile, read_run_file, read_run_text
from clipmill.runs.summary import read_summary
from clipmill.source.media import MEDIA
from clipmill.source.names import MEDIA_SUFFIXES
from clipmill.versions.place import Place
from clipmill.versions.pointer import current, read_pointer

_YAML = (".yaml", ".yml")
_THUMBNAIL_PIXELS = 160
"""As large as reports show pictures."""
_WEIGHTS = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")
_OF_EMBED = ("image_column", "caption_column", "limit", *ModelSettings.model_fields)


@dataclass(frozen=True)
class Asked:
    """What is to be run, and how the record of the run calls it. ``output`` is the place in the user's words, None where a run
    file says it; ``text`` the run file that an input stands for."""

    run: RunFile
    called: str
    output: str | None = None
    text: str = ""


def read_asked(settings: RunSettings, cluster: ClusterSettings) -> Asked:
    """The run that is asked for, checked as far as can be before anything starts.

    Raises UserError, which ends in what to type, for everything that is seen to be wrong.
    """
    if is_run_file(settings.source):
        _refuse_options(settings, cluster)
        return Asked(read_run_file(Path(settings.source), look_at_places=True), settings.source)
    medium = medium_of_input(settings.source)
    output = output_for(settings.source, settings.output)
    _refuse_model(settings)
    called = _command(settings, cluster)
    _refuse_another_model(settings, output, called)
    text = run_text(settings, cluster, output, medium)
    run = read_run_text(text, called)
    if settings.save_config is not None:
        save(text, Path(settings.save_config).expanduser())
    return Asked(run, called, output, text)


def is_run_file(source: str) -> bool:
    """Whether the argument names a run file: by its name, or as a file that no input is."""
    if source.lower().endswith(_YAML):
        return True
    known = (
        *FILE_SUFFIXES,
        *(suffix for suffixes in MEDIA_SUFFIXES.values() for suffix in suffixes),
        ".zip",
        ".rar",
        ".7z",
    )
    return "://" not in source and Path(source).expanduser().is_file() and not source.lower().endswith(known)


def run_text(settings: RunSettings, cluster: ClusterSettings, output: str, medium: str | None) -> str:
    """The run file that these settings stand for. Local paths are absolute in it, so that it may be run from anywhere."""
    asked = {name: value for name, value in settings.model_dump(mode="json").items() if name in _OF_EMBED}
    given = {name: value for name, value in asked.items() if value != RunSettings.model_fields[name].default}
    given |= {name: _absolute(given[name]) for name in ("model", "pretrained") if _is_path(given.get(name))}
    embed: dict[str, Any] = {"input": _absolute(settings.source), "thumbnails": _THUMBNAIL_PIXELS, **given}
    document: dict[str, Any] = {"output": _absolute(output), "embed": embed}
    part = next((one.part for name, one in MEDIA.items() if name == medium), "images")
    document["index"] = {} if part == "images" else {"gallery": part}
    document["evaluate"] = {}
    if settings.max_row_loss is not None:
        document["gates"] = {"max_row_loss": settings.max_row_loss}
    if cluster.model_fields_set:
        document["cluster"] = cluster.model_dump(mode="json", include=cluster.model_fields_set)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def save(text: str, path: Path) -> None:
    """Writes the run file. Raises UserError where another file is there, or none can be written."""
    try:
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(
                f"--save-config {path} is there already, and is not replaced; run it as it is, or give another name: type: "
                f"clipmill run {shlex.quote(str(path))}"
            )
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"--save-config {path} cannot be written: {error.strerror}; type: --save-config ~/{shlex.quote(path.name)}"
        ) from None


def next_commands(output: str) -> list[str]:
    """What to type when a run of an input has ended well: commands as a shell takes them."""
    place = shlex.quote(output)
    return [f"clipmill explore {place}", f'clipmill search --index {place} --text "a dog on a beach"']


def _refuse_options(settings: RunSettings, cluster: ClusterSettings) -> None:
    given = [flag_of(RunSettings, name) for name in sorted(settings.model_fields_set - {"source"})]
    given += [flag_of(ClusterSettings, name) for name in sorted(cluster.model_fields_set)]
    if given:
        raise UserError(
            f"{', '.join(given)} cannot be given beside a run file: write it into {settings.source}, and type: clipmill run "
            f"{shlex.quote(settings.source)}"
        )


def _refuse_model(settings: RunSettings) -> None:
    """Raises UserError for a model that cannot be had, as far as that is seen without loading its library."""
    refuse_unusable_model(settings.model_settings)
    model, pretrained = settings.model, settings.pretrained
    named = model in known_models()
    if named and pretrained is None:
        raise UserError(
            f"--model {model} needs weights: --pretrained FILE or TAG; for its tags, type: clipmill models {model}"
        )
    if pretrained is not None and _is_path(pretrained) and not _there(pretrained):
        raise UserError(
            f"--pretrained {pretrained}: there is no such file or folder; give the place of the weights, or a tag, which is "
            f"downloaded; for tags, type: clipmill models {model if named else ''}".rstrip()
        )
    if pretrained is not None and model is None and not _is_path(pretrained) and not _there(pretrained):
        raise UserError(
            f"--pretrained {pretrained} is a tag, which needs a model; type: --model ViT-B-32 --pretrained {pretrained}"
        )


def _is_path(name: str | None) -> bool:
    """Whether a model or its weights are named as a place of this machine, by the look of the name."""
    if not name or (":" in name and not name.startswith(LOCAL_DIR)):
        return False
    return name.startswith(LOCAL_DIR) or "/" in name or name.lower().endswith(_WEIGHTS)


def _there(name: str) -> bool:
    return Path(name.removeprefix(LOCAL_DIR)).expanduser().exists()


def _refuse_another_model(settings: RunSettings, output: str, called: str) -> None:
    """Raises UserError where nothing is said of the model and another than the built-in one was used before: what is there
    would be embedded again with a model that was not asked for."""
    if settings.model is not None or settings.pretrained is not None or read_pointer(Place.of(output)).name is None:
        return
    model = Embeddings.open(current(output, "embeddings")).manifest.model
    if model is None or model.name in BUILTIN_FOLDERS:
        return
    summary = read_summary(storage.resolve(output))
    before = summary.configuration if summary and summary.configuration.startswith("clipmill run") else ""
    named = f"{called} --model {model.name} --pretrained {shlex.quote(model.pretrained)}"
    raise UserError(
        f"{output} was made with the model {model.name}; to go on with the built-in model instead, add --model {BUILTIN}; to "
        f"go on as before, type: {before or named}"
    )


def _command(settings: RunSettings, cluster: ClusterSettings) -> str:
    """The command, as it can be typed again."""
    words = ["clipmill", "run", settings.source]
    for one in (settings, cluster):
        for name in type(one).model_fields:
            if name in one.model_fields_set - {"source", "save_config"}:
                words += _words(flag_of(type(one), name), getattr(one, name))
    return shlex.join(words)


def _words(flag: str, value: object) -> list[str]:
    return [flag] if value is True else [] if value in (None, False) else [flag, str(value)]


def _absolute(place: str) -> str:
    """The same place from any working folder; wildcards are left in it."""
    if "://" in place:
        return place
    if place.startswith(LOCAL_DIR):
        return LOCAL_DIR + _absolute(place.removeprefix(LOCAL_DIR))
    return os.path.abspath(os.path.expanduser(place))
