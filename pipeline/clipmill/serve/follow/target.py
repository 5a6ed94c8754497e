"""What a URI names at this moment: an index, or the index of a version of a published place."""

from dataclasses import dataclass

from clipmill import storage
from clipmill.datasets.manifests import MANIFEST
from clipmill.versions.place import Place
from clipmill.versions.pointer import holds_part, read_pointer
from clipmill.versions.version import VERSION_FILE


@dataclass(frozen=True)
class Target:
    """``place`` is where takedowns are recorded, None for an index that is in no published place; ``followed`` says whether
    another version may take its place."""

    uri: str
    version: str | None
    place: Place | None
    followed: bool


def target_of(uri: str) -> Target:
    """A published place is its current version; a folder ``runs/NAME`` of one, or the index in it, is that version."""
    location = storage.resolve(uri)
    name = read_pointer(Place(location)).name
    if name is not None:
        place = Place(location)
        return Target((place.version(name) / "index").uri, name, place, followed=True)
    index = location
    is_version = storage.is_file(location / VERSION_FILE) and not storage.is_file(location / MANIFEST)
    if is_version or holds_part(location, "index"):
        index = location / "index"
    above, *tail = index.uri.rstrip("/").rsplit("/", 3)
    if len(tail) == 3 and tail[0] == "runs" and tail[2] == "index":
        return Target(index.uri, tail[1], Place.of(above), followed=False)
    return Target(index.uri, None, None, followed=False)
