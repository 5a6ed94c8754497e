"""Whether what a run file names is there: looked at before anything starts, and nothing is opened or written."""

import os
from collections.abc import Iterator
from pathlib import Path

from clipmill import storage
from clipmill.core.errors import ClipmillError
from clipmill.core.settings import EmbedSettings, EvaluateSettings
from clipmill.datasets.manifests import MANIFEST
from clipmill.evaluation.classification.class_names import IMAGENET
from clipmill.evaluation.classification.templates import NAMED
from clipmill.source.inputs import refuse_unreachable
from clipmill.source.locating import locate

Problem = tuple[str, str, str]
"""Section, key and what is wrong."""


def unreachable(output: str, embed: EmbedSettings, evaluate: EvaluateSettings | None) -> Iterator[Problem]:
    """Every place that cannot be read, or written to."""
    if wrong := not_writable(output):
        yield "output", "", wrong
    try:
        refuse_unreachable(embed.input)
    except ClipmillError as error:
        yield "embed", "input", str(error)
    if wrong := _no_weights(embed.pretrained):
        yield "embed", "pretrained", wrong
    if evaluate is None:
        return
    if wrong := _no_weights(evaluate.pretrained):
        yield "evaluate", "pretrained", wrong
    for key, named in (("templates", tuple(NAMED)), ("class_names", (IMAGENET,))):
        value = getattr(evaluate, key)
        if value is not None and value not in named and (wrong := _no_file(value)):
            yield "evaluate", key, f"{wrong}, and it is none of {', '.join(named)}"
    for key in ("probe_train", "robustness"):
        values = getattr(evaluate, key) or ()
        for value in [values] if isinstance(values, str) else values:
            if wrong := _no_file(f"{value.rstrip('/')}/{MANIFEST}"):
                yield "evaluate", key, f"{value} is no finished dataset: {wrong}"


def _no_file(uri: str) -> str:
    try:
        return "" if storage.is_file(storage.resolve(uri)) else f"there is no file {uri}"
    except ClipmillError as error:
        return str(error)


def _no_weights(pretrained: str | None) -> str:
    """Of a folder, or of a name that is a path; a tag of open_clip is looked up later."""
    if pretrained is None:
        return ""
    folder = pretrained.removeprefix("local-dir:")
    is_path = folder != pretrained or "/" in pretrained
    return f"there is no {folder}" if is_path and not Path(folder).expanduser().exists() else ""


def not_writable(output: str) -> str:
    """Of a local folder, whether the nearest one above that is there lets this user write; on S3, whether there is such a
    bucket."""
    try:
        if output.startswith("s3://"):
            locate(output)
            return ""
        path = storage.resolve(output).path
    except ClipmillError as error:
        return str(error)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        return f"{path} is a file, and a folder is needed"
    return "" if os.access(path, os.W_OK | os.X_OK) else f"there is no permission to write into {path}"
