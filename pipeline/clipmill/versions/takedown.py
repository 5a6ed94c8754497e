"""What was taken down, in a list beside the versions that only grows."""

import json

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import Record
from clipmill.core.takedown import Takedown as Takedown
from clipmill.versions.place import Place

_ATTEMPTS = 20


class _File(Record):
    """``removed.json``. Before contents could be taken down it was a list of ids."""

    ids: list[str]
    contents: list[str]


def read_removed(place: Place) -> Takedown:
    """All that was taken down so far. Raises RunFailed when the list is damaged: then nothing may be published."""
    return _read(place)[0]


def add_removed(place: Place, wanted: Takedown) -> tuple[int, Takedown]:
    """Adds to the list; how many entries are new, and the list as it is now."""
    for _ in range(_ATTEMPTS):
        known, state = _read(place)
        together = known | wanted
        if together == known:
            return 0, known
        file = _File(ids=sorted(together.ids), contents=sorted(together.contents))
        if storage.write_if(place.removed, file.model_dump_json(indent=1).encode(), state) is not None:
            return len(together) - len(known), together
    raise RunFailed(f"{place.removed} is being changed by others all the time; run the same command again")


def _read(place: Place) -> tuple[Takedown, str | None]:
    try:
        found = storage.read_versioned(place.removed)
    except (FileNotFoundError, NotADirectoryError):
        return Takedown(), None
    try:
        document = json.loads(found.data)
        file = _File.model_validate({"ids": document, "contents": []} if isinstance(document, list) else document)
    except (ValueError, ValidationError):
        raise RunFailed(
            f"{place.removed} is damaged: it must be JSON with a list of ids and one of contents; mend it by hand"
        ) from None
    return Takedown(frozenset(file.ids), frozenset(file.contents)), found.version
