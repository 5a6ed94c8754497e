"""Which files of the input are new, changed or gone since a version was made, and the ordinals that they have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.schemas import MAX_FILES
from clipmill.datasets.manifests import INPUTS_FILE, Embeddings
from clipmill.source.input_file import InputFile


@dataclass(frozen=True)
class Changes:
    """``known`` are the lines of ``inputs.parquet`` of the version before; ``files`` the input as it is now, in order of
    ordinals: a file has the one it had if path, size and version are the same, else one that nothing had before."""

    known: list[Mapping[str, Any]]
    files: list[InputFile]

    @cached_property
    def _alive(self) -> frozenset[int]:
        return frozenset(file.ordinal for file in self.files)

    @cached_property
    def _before(self) -> frozenset[int]:
        return frozenset(record["ordinal"] for record in self.known)

    @cached_property
    def new(self) -> list[InputFile]:
        """Files that were not there, or were others."""
        return [file for file in self.files if file.ordinal not in self._before]

    @cached_property
    def dead(self) -> frozenset[int]:
        """Ordinals of files that were there and are no more, or are others now."""
        return frozenset(record["ordinal"] for record in self.known if not record["dead"]) - self._alive

    @property
    def used(self) -> int:
        """Ordinals below this one belong to files of this version or of one before."""
        return 1 + max([*self._alive, *self._before], default=-1)

    @property
    def kept(self) -> int:
        """How many files are as they were."""
        return len(self.files) - len(self.new)

    def lines(self, made: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """``inputs.parquet`` of the next version: ``made`` are the lines of what was embedded for it."""
        lines = {record["ordinal"]: {**record, "dead": record["ordinal"] not in self._alive} for record in self.known}
        for file in self.files:
            if file.ordinal not in lines:
                nothing = {"ordinal": file.ordinal, "path": file.path, "size": file.size, "etag": file.etag}
                lines[file.ordinal] = {**nothing, "rows": 0, "captions": 0, "dead": False}
        lines |= {record["ordinal"]: dict(record) for record in made}
        return [lines[ordinal] for ordinal in sorted(lines)]


def changes_since(base: Embeddings | None, inputs: Sequence[InputFile], used: int = 0) -> Changes:
    """What has changed since ``base``; ordinals below ``used`` belong to files of other versions. Raises UserError when
    there are no ordinals left."""
    known = storage.read_table(base.location / INPUTS_FILE).to_pylist() if base else []
    ordinals = {
        (record["path"], record["size"], record["etag"]): record["ordinal"] for record in known if not record["dead"]
    }
    following = max([used, *(record["ordinal"] + 1 for record in known)])
    files = []
    for file in sorted(inputs, key=lambda file: file.path.encode()):
        ordinal = ordinals.get((file.path, file.size, file.etag))
        if ordinal is None:
            ordinal, following = following, following + 1
        files.append(replace(file, ordinal=ordinal))
    if following > MAX_FILES:
        raise UserError(
            f"over all versions there were more than {MAX_FILES} source files, which is all that row numbers have room "
            "for; publish to a new output, and write fewer and larger files"
        )
    return Changes(known, sorted(files, key=lambda file: file.ordinal))
