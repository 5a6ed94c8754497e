"""What is written down of a version, and which versions there are."""

import logging
from datetime import datetime

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.forecasts import Forecast
from clipmill.core.manifests import (
    Counts,
    Name,
    Record,
    Sha256,
)
from clipmill.datasets.manifests import MANIFEST
from clipmill.report.write import REPORT_FILE
from clipmill.storage import Location
from clipmill.versions.place import PARTS, Place

VERSION_FILE = "version.json"
_LOG = logging.getLogger(__name__)


class Bar(Record):
    """A bar of the configuration and what was measured for it; ``missed`` says by how much, empty where it is reached."""

    name: str
    measured: str
    bar: str
    missed: str = ""


class Training(Record):
    """The training that an index stands on: its sha256, and the mean squared ``error`` of reconstruction of the vectors of that
    time (`clipmill.versions.drift`); null for an index without lists. Version 0.1.0 wrote the ``distance`` from their coarse
    centroid, in which what a projection drops is missing."""

    sha256: Sha256
    distance: float | None = None
    error: float | None = None


class Version(Record):
    """``version.json``. ``base`` is the version that it grew from, ``key`` follows from all that decides its content.

    ``manifests`` are the sha256 of its manifests by part. ``rows_encoded`` of its rows were encoded for it, the others are
    those of ``base``. ``notes`` say in words why it was made so. ``removed`` is how many ids and contents were taken down by
    then,
    ``ordinals`` how many ordinals of source files were given away. ``plan`` is what the run should take, and took.
    """

    name: Name
    made: datetime
    base: Name | None
    key: str
    manifests: dict[Name, Sha256]
    counts: Counts
    rows_encoded: int
    rows_reused: int
    removed: int
    ordinals: int
    training: Training | None
    notes: list[str]
    bars: list[Bar]
    plan: Forecast | None = None


def read_version(place: Place, name: str) -> Version:
    """Raises UserError where there is no such version, and RunFailed where its file is damaged."""
    file = place.version(name) / VERSION_FILE
    try:
        found = Version.model_validate_json(storage.read_bytes(file))
    except FileNotFoundError:
        raise UserError(
            f"{place.output} has no version {name}; `clipmill versions {place.output}` lists them"
        ) from None
    except ValidationError as error:
        raise RunFailed(f"{file} is damaged: {error.errors()[0]['msg']}") from None
    if found.name != name:
        raise RunFailed(f"{file} is damaged: it says that it is version {found.name}")
    return found


def write_version(place: Place, version: Version) -> None:
    """The last file of a version, which makes it one."""
    storage.write_bytes(place.version(version.name) / VERSION_FILE, version.model_dump_json(indent=2).encode())


def all_versions(place: Place) -> list[Version]:
    """The finished versions, the oldest first; without those whose file is damaged, of which the log tells."""
    found = []
    for name in named_versions(place):
        try:
            found.append(read_version(place, name))
        except RunFailed as error:
            _LOG.warning("version %s is left as it is: %s", name, error)
    return found


def named_versions(place: Place) -> list[str]:
    """The names of the folders that hold a version's file, the oldest first."""
    start = len(place.versions.path) + 1
    names = {info.path[start:] for info in storage.list_files(place.versions)}
    found = [name.partition("/")[0] for name in names if name.count("/") == 1 and name.endswith(f"/{VERSION_FILE}")]
    return sorted(found)


def manifests_of(folder: Location) -> dict[str, str]:
    """The sha256 of the manifest of each part that is there; of a report, of its document."""
    names = dict.fromkeys(PARTS, MANIFEST) | {"report": REPORT_FILE}
    files = {part: folder / part / name for part, name in names.items()}
    return {part: storage.sha256(file) for part, file in files.items() if storage.is_file(file)}


def folders(place: Place) -> set[str]:
    """The names of all versions, finished or not."""
    start = len(place.versions.path) + 1
    return {info.path[start:].partition("/")[0] for info in storage.list_files(place.versions)}
