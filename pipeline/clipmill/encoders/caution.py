"""Where the built-in model is used on what it was not made for: it knows the scenes that `clipmill sample` draws, no more."""

import shlex
from collections.abc import Collection

from clipmill.core.manifests import ModelIdentity
from clipmill.encoders.names import BUILTIN_FOLDERS

SCENE_COLUMNS = frozenset({"size", "objects", "layout", "background", "scene"})
"""Columns that `clipmill sample` writes beside a label; with all of them, rows are taken for its scenes."""
REAL_MODEL = ("ViT-B-32", "laion2b_s34b_b79k")
"""Model and tag of an answer to what to use instead: small, and of known quality on photographs."""


def caution(
    model: ModelIdentity | None, kept_columns: Collection[str], input: str | None, output: str | None = None
) -> str:
    """What has to be known of vectors that the built-in model made of anything but rendered scenes, with the command that names
    a real one; empty where there is nothing to say. ``output`` is a place that `clipmill run` publishes to."""
    if model is None or model.name not in BUILTIN_FOLDERS or set(kept_columns) >= SCENE_COLUMNS:
        return ""
    named = f"--model {REAL_MODEL[0]} --pretrained {REAL_MODEL[1]}"
    source = shlex.quote(input or "INPUT")
    if output is None:
        command = f"clipmill embed --input {source} --output NEW {named}"
    else:
        command = f"clipmill run {source} --output {shlex.quote(output)} {named}"
    return (
        "the built-in model knows rendered scenes and nothing of photographs: what it finds in them means little. For a model "
        f"that does (`clipmill models` lists some), type: {command}"
    )


def published_at(embeddings: str) -> str | None:
    """The place that `clipmill run` publishes to, where a URI is that of the embeddings of a version; else None."""
    place, *tail = embeddings.rstrip("/").rsplit("/", 3)
    return place if len(tail) == 3 and (tail[0], tail[2]) == ("runs", "embeddings") else None
