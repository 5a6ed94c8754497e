"""The pointer: one small file, replaced whole and only over the one that was seen, that says which version is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.manifests import Name, Record, Sha256
from clipmill.datasets.manifests import MANIFEST
from clipmill.storage import Location
from clipmill.versions.place import Place
from clipmill.versions.version import Version


class Pointer(Record):
    """``current.json``: the version that is read, since when (UTC), and the sha256 of its manifests by part."""

    version: Name
    switched: datetime
    manifests: dict[Name, Sha256]


@dataclass(frozen=True)
class Seen:
    """The pointer as it was read, and which state of the file that was: null where there was none."""

    pointer: Pointer | None
    state: str | None

    @property
    def name(self) -> str | None:
        return self.pointer.version if self.pointer else None


def read_pointer(place: Place) -> Seen:
    """Raises RunFailed when the file is none of ours."""
    try:
        found = storage.read_versioned(place.pointer)
    except (FileNotFoundError, NotADirectoryError):
        return Seen(None, None)
    try:
        return Seen(Pointer.model_validate_json(found.data), found.version)
    except ValidationError:
        raise RunFailed(
            f"{place.pointer} is damaged; remove it, and choose a version with `clipmill rollback {place.output} --to "
            "VERSION`"
        ) from None


def refuse_unpublished(place: Place) -> None:
    """Raises UserError where `clipmill run` has published nothing."""
    if not storage.is_file(place.pointer):
        raise UserError(f"{place.output}: no version was published there; make one with `clipmill run`")


def switch(place: Place, version: Version, seen: Seen) -> None:
    """Lets readers see this version. Raises RunFailed, and changes nothing, when the pointer is not as it was seen."""
    pointer = Pointer(version=version.name, switched=datetime.now(timezone.utc), manifests=version.manifests)
    written = storage.write_if(place.pointer, pointer.model_dump_json(indent=2).encode(), seen.state)
    if written is None and read_pointer(place).name != version.name:  # else an earlier try had landed behind an error
        raise RunFailed(
            f"{place.pointer} was switched by somebody else meanwhile (it was at {seen.name or 'no version'}), so it was "
            "left as it is; run the same command again"
        )


def datasets_at(uri: str) -> list[str]:
    """All parts of the current version when ``uri`` is what `clipmill run` publishes; else ``uri`` itself."""
    pointer = read_pointer(Place.of(uri)).pointer
    return [current(uri, part) for part in pointer.manifests] if pointer else [uri]


def with_current(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a command, in which ``embeddings`` and ``index`` may name what `clipmill run` publishes."""
    named = {part: options.get(part) for part in ("embeddings", "index")}
    return {**options, **{part: current(uri, part) for part, uri in named.items() if uri is not None}}


def current(uri: str, part: str) -> str:
    """Where to read a part (embeddings, index, report) when ``uri`` is what `clipmill run` publishes, or a folder that holds
    parts under their names; else ``uri`` itself."""
    place = Place.of(uri)
    name = read_pointer(place).name
    if name is not None:
        return (place.version(name) / part).uri
    return (place.output / part).uri if holds_part(place.output, part) else uri


def holds_part(folder: Location, part: str) -> bool:
    """Whether a folder is no dataset itself and holds one under the name of a part, as what was taken over does."""
    return storage.is_file(folder / part / MANIFEST) and not storage.is_file(folder / MANIFEST)
