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
from clipmill.encoders.library import ENTRY_POINT, SENTENCE_TRANSFORMERS, TRANSFORMERS, find_place
from clipmill.encoders.names import BUILTIN_FOLDERS, LOCAL_DIR


def known_identity(settings: ModelSettings) -> ModelIdentity | None:
    """What the model that these settings name was found to be the last time; None where that is not known."""
    if not _settled(settings):
        return None
    try:
        return ModelIdentity.model_validate_json(_place(settings).read_bytes())
    except (OSError, ValidationError):
        return None


def _settled(settings: ModelSettings) -> bool:
    """Whether the same names mean the same model tomorrow: not where they name the newest commit of a repository, nor where
    a package decides."""
    place = find_place(settings)
    return place.library != ENTRY_POINT and not (place.repository and place.revision is None)


def keep_identity(settings: ModelSettings, identity: ModelIdentity) -> None:
    """Keeps the identity of a model that was loaded; nothing where the cache cannot be written."""
    place = _place(settings)
    temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(identity.model_dump_json(), encoding="utf-8")
        temporary.replace(place)


def _place(settings: ModelSettings) -> Path:
    named = [
        settings.model,
        settings.pretrained,
        settings.preprocessing,
        settings.dimension,
        settings.trust_remote_code,
    ]
    places = [settings.model, settings.pretrained, settings.preprocessing, *map(str, BUILTIN_FOLDERS.values())]
    files = [file for name in places for file in _files_of(name)]
    key = {
        "named": named,
        "files": files,
        "libraries": [software().get(name) for name in ("open_clip_torch", "transformers", "sentence-transformers")],
        "version": software().get("clipmill"),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return DEFAULT_CACHE.expanduser() / "identities" / f"{digest[:32]}.json"


def _files_of(name: str | None) -> list[list[object]]:
    """Of a file, or of a folder with those in it: path, size and time of change."""
    if name is None:
        return []
    for prefix in (LOCAL_DIR, f"{TRANSFORMERS}:", f"{SENTENCE_TRANSFORMERS}:"):
        name = name.removeprefix(prefix)
    path = Path(name).expanduser()
    places = [path, *sorted(path.rglob("*"))] if path.is_dir() else [path, *path.parent.glob("*.json")]
    return [[str(one.resolve()), one.stat().st_size, one.stat().st_mtime_ns] for one in places if one.is_file()]
