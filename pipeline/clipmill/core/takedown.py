"""What was taken down: ids and contents of pictures."""

import hashlib
import json
from dataclasses import dataclass

TAKEN_DOWN = "taken down"
"""The detail of a reject that was taken down."""


@dataclass(frozen=True)
class Takedown:
    """``ids`` of rows, and ``contents``: the sha256, in hex, of the encoded bytes of pictures, wherever they appear."""

    ids: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids) + len(self.contents)

    def __or__(self, other: "Takedown") -> "Takedown":
        return Takedown(self.ids | other.ids, self.contents | other.contents)

    def holds(self, id_: str, encoded: bytes | None) -> bool:
        """Whether a row with this id and these encoded bytes of a picture was taken down."""
        if id_ in self.ids:
            return True
        return bool(self.contents) and encoded is not None and hashlib.sha256(encoded).hexdigest() in self.contents

    @property
    def sha256(self) -> str | None:
        """Of all that was taken down; None where that is nothing."""
        if not len(self):
            return None
        return hashlib.sha256(json.dumps([sorted(self.ids), sorted(self.contents)]).encode()).hexdigest()


NOTHING = Takedown()
