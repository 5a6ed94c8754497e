"""The YAML file of `clipmill run`: one section a stage, in the words of that stage's options."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import ClusterSettings, EmbedSettings, EvaluateSettings, IndexSettings, SettingsModel, build
from pipeline.errors import UserError

_SECTIONS = ("output", "cluster", "embed", "index", "evaluate")
_PLACES = {
    "embed": {"output": "embeddings"},
    "index": {"embeddings": "embeddings", "output": "index"},
    "evaluate": {"embeddings": "embeddings", "index": "index", "output": "report"},
}
"""What links one stage to the next, as names below ``output``: these are not set by the user."""


@dataclass(frozen=True)
class RunFile:
    """Every stage's settings, checked together before anything starts. None: that stage is switched off."""

    embed: EmbedSettings
    index: IndexSettings | None
    evaluate: EvaluateSettings | None
    cluster: ClusterSettings


def read_run_file(path: Path) -> RunFile:
    """Reads and checks a run file. Raises UserError that names the file and every key at fault."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, Mapping):
        raise UserError(f"{path}: must hold the sections {', '.join(_SECTIONS)}")
    problems = [f"unknown section {key!r} (known: {', '.join(_SECTIONS)})" for key in document if key not in _SECTIONS]
    output = document.get("output")
    if not isinstance(output, str) or not output:
        problems.append("`output` must say where the embeddings, the index and the report are published")
        output = "unknown"
    cluster = _section(document, "cluster", ClusterSettings, output, problems)
    embed = _section(document, "embed", EmbedSettings, output, problems)
    index = _section(document, "index", IndexSettings, output, problems)
    evaluate = _section(document, "evaluate", EvaluateSettings, output, problems)
    if problems or embed is None:
        raise UserError(f"{path}: {'; '.join(problems) or '`embed` cannot be left out'}")
    if index is None and evaluate is not None:
        evaluate = evaluate.model_copy(update={"index": None})
    return RunFile(embed, index, evaluate, cluster or ClusterSettings())


def _section(
    document: Mapping[str, Any], name: str, model: type[SettingsModel], output: str, problems: list[str]
) -> SettingsModel | None:
    section = document.get(name, {})
    if section is False:
        return None
    if section is None:
        section = {}
    if not isinstance(section, Mapping):
        problems.append(f"`{name}` must be a section of options, or `false` to leave this stage out")
        return None
    places = {key: f"{output.rstrip('/')}/{below}" for key, below in _PLACES.get(name, {}).items()}
    for key in sorted(set(section) & {*places, "overwrite"}):
        problems.append(f"{name}.{key} follows from `output` and is not set here")
    values = dict(section)
    try:
        return build(model, {**values, **places})
    except UserError as error:
        problems.append(f"{name}: {error}".replace("--", ""))
        return None
