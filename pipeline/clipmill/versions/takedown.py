"""What was taken down: ids and contents of pictures, in a list beside the versions that only grows."""

import hashlib
import json
from dataclasses import dataclass

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import Record
from clipmill.versions.place import Place

_ATTEMPTS = 20


@dataclass(frozen=True)
class Takedown:
    """``ids`` of rows, and ``contents``: the sha256, in hex, of the encoded bytes of pictures, wherever they appear."""

    ids: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids) + len(self.contents)

    def __or__(self, other: "Takedown") -> "Takedown":
        return Takedown(self.ids | other.ids, self.contents | other.contents)

    @property
    def sha256(self) -> str | None:
        """Of all that was taken down; None where that is nothing."""
        if not len(self):
            return None
        return hashlib.sha256(json.dumps([sorted(self.ids), sorted(self.contents)]).encode()).hexdigest()


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
