"""Ids that were taken down: a list beside the versions that only grows."""

import hashlib
import json
from collections.abc import Iterable

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.storage import Location
from clipmill.versions.place import Place

_ATTEMPTS = 20


def read_removed(place: Place) -> frozenset[str]:
    """All ids taken down so far. Raises RunFailed when the list is damaged: then nothing may be published."""
    return _read(place)[0]


def removed_sha256(ids: Iterable[str]) -> str | None:
    """Of a list of ids; None of an empty one."""
    ordered = sorted(ids)
    return hashlib.sha256(json.dumps(ordered).encode()).hexdigest() if ordered else None


def add_removed(place: Place, ids: Iterable[str]) -> tuple[int, int]:
    """Adds ids to the list; how many of them are new, and how many there are now."""
    wanted = frozenset(ids)
    for _ in range(_ATTEMPTS):
        known, state = _read(place)
        if wanted <= known:
            return 0, len(known)
        data = json.dumps(sorted(known | wanted), indent=0, ensure_ascii=False).encode()
        if storage.write_if(place.removed, data, state) is not None:
            return len(wanted - known), len(known | wanted)
    raise RunFailed(f"{place.removed} is being changed by others all the time; run the same command again")


def read_ids(file: Location) -> list[str]:
    """The ids in a text file, one per line; empty lines count for nothing. Raises FileNotFoundError."""
    lines = storage.read_bytes(file).decode("utf-8-sig").split("\n")
    return [line.rstrip("\r") for line in lines if line.strip()]


def _read(place: Place) -> tuple[frozenset[str], str | None]:
    try:
        found = storage.read_versioned(place.removed)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset(), None
    try:
        ids = json.loads(found.data)
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise ValueError
    except ValueError:
        raise RunFailed(f"{place.removed} is damaged: it must be a JSON list of ids; mend it by hand") from None
    return frozenset(ids), found.version
