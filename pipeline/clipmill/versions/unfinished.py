"""The version that a run is making: named when it begins, so that a run after a kill goes on with it."""

from datetime import datetime, timezone

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.manifests import Name, Record
from clipmill.versions.place import Place

_TIME = "%Y%m%dT%H%M%SZ"


class UnfinishedVersion(Record):
    """``unfinished.json``: a name, what decides the content, and the version that it grows from."""

    name: Name
    key: str
    base: Name | None


def read_unfinished(place: Place) -> UnfinishedVersion | None:
    """What a run began and did not publish; None where there is nothing of the kind."""
    try:
        return UnfinishedVersion.model_validate_json(storage.read_bytes(place.unfinished))
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def begin(place: Place, key: str, base: str | None) -> UnfinishedVersion:
    """The version to make now: the unfinished one if it is the same, else a new one in its place. The caller owns the
    output."""
    found = read_unfinished(place)
    if found is not None and (found.key, found.base) == (key, base):
        return found
    if found is not None and not storage.exists(place.version(found.name) / "version.json"):
        storage.remove(place.version(found.name))
    storage.remove(place.work)
    storage.remove(storage.staging_of(place.new_rows))
    new = UnfinishedVersion(name=f"{datetime.now(timezone.utc).strftime(_TIME)}-{key[:8]}", key=key, base=base)
    storage.write_bytes(place.unfinished, new.model_dump_json(indent=2).encode())
    return new


def end(place: Place) -> None:
    """It is published. The caller owns the output."""
    storage.remove(place.unfinished)
    storage.remove(place.work)
