"""Identities of models that were loaded on this machine, kept so that a plan needs no model: that takes seconds, and torch.

An identity is that of the files it was read from, by their paths, sizes and times of change; of a tag, which is published once,
by its name. Whoever encodes loads the model, and keeps its identity again.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from clipmill.core.environment import DEFAULT_CACHE, software
from clipmill.core.manifests import ModelIdentity
from clipmill.core.settings import ModelSettings
from clipmill.encoders.names import BUILTIN_FOLDER, LOCAL_DIR


def known_identity(settings: ModelSettings) -> ModelIdentity | None:
    """What the model that these settings name was found to be the last time; None where that is not known."""
    try:
        return ModelIdentity.model_validate_json(_place(settings).read_bytes())
    except (OSError, ValidationError):
        return None


def keep_identity(settings: ModelSettings, identity: ModelIdentity) -> None:
    """Keeps the identity of a model that was loaded; nothing where the cache cannot be written."""
    place = _place(settings)
    temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(identity.model_dump_json(), encoding="utf-8")
        temporary.replace(place)


def _place(settings: ModelSettings) -> Path:
    named = [settings.model, settings.pretrained, settings.preprocessing]
    files = [file for name in (*named, str(BUILTIN_FOLDER)) for file in _files_of(name)]
    key = {
        "named": named,
        "files": files,
        "open_clip": software().get("open_clip_torch"),
        "version": software().get("clipmill"),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return DEFAULT_CACHE.expanduser() / "identities" / f"{digest[:32]}.json"


def _files_of(name: str | None) -> list[list[object]]:
    """Of a file, or of a folder with those in it: path, size and time of change."""
    if name is None:
        return []
    path = Path(name.removeprefix(LOCAL_DIR)).expanduser()
    places = [path, *sorted(path.iterdir())] if path.is_dir() else [path, *path.parent.glob("*.json")]
    return [[str(one.resolve()), one.stat().st_size, one.stat().st_mtime_ns] for one in places if one.is_file()]
