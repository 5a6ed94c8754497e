"""The files of a dataset against its list: present, of the right size, and no others."""

from collections.abc import Iterable, Sequence

from clipmill import storage
from clipmill.datasets.manifests import MANIFEST
from clipmill.datasets.shards import Shard, dataset_of
from clipmill.storage import Location
from clipmill.verification.findings import Findings


def sizes_of(location: Location) -> dict[str, int]:
    """Every file below a place, by its path there, with its size in bytes."""
    start = len(location.path.rstrip("/")) + 1
    return {info.path[start:]: info.size for info in storage.list_files(location)}


def check_files(location: Location, shards: Sequence[Shard], others: Iterable[str], findings: Findings) -> list[Shard]:
    """Reports missing, extra and cut files; returns the shards that are there in full size, in order.

    ``others`` are the files beside shards and manifest that belong to the dataset.
    """
    elsewhere = [shard for shard in shards if shard.version is not None]
    present = sizes_of(location)
    expected = {shard.name for shard in shards if shard.version is None} | set(others) | {MANIFEST}
    present |= _sizes_elsewhere(location, elsewhere)
    expected |= {shard.name for shard in elsewhere}
    if len({shard.name for shard in shards}) < len(shards):
        findings.fault("shards.parquet lists a file twice")
    for path in sorted(expected - set(present)):
        findings.fault(f"{path} is missing")
    for path in sorted(set(present) - expected):
        findings.fault(f"{path} does not belong to the dataset")
    sound = []
    for shard in shards:
        size = present.get(shard.name)
        if size is None:
            continue
        findings.count("files", 1)
        if size == shard.bytes:
            sound.append(shard)
        else:
            findings.fault(f"{shard.name} has {size} bytes and should have {shard.bytes}: it was cut short or replaced")
    return sound


def _sizes_elsewhere(location: Location, shards: Sequence[Shard]) -> dict[str, int]:
    """Files of older versions that a dataset names, by what it calls them, with their sizes; those that are there. Each
    version is listed once."""
    found: dict[str, int] = {}
    for version in {shard.version for shard in shards if shard.version is not None}:
        sizes = sizes_of(dataset_of(version, location))
        of_version = [shard for shard in shards if shard.version == version and shard.path in sizes]
        found |= {shard.name: sizes[shard.path] for shard in of_version}
    return found


def check_order(shards: Iterable[Shard], findings: Findings, *, repeats: bool) -> bool:
    """Whether every shard's rows begin where those before have ended; ``repeats``: the last row may go on."""
    in_order = True
    last: int | None = None
    for shard in shards:
        if not shard.rows:
            continue
        first = shard.first_row
        if first is None or shard.last_row is None or shard.last_row < first:
            findings.fault(f"shards.parquet does not say which rows {shard.name} holds")
            in_order = False
            continue
        if last is not None and (first < last or (first == last and not repeats)):
            findings.fault(f"{shard.name} begins with row {first}, but the file before it ends with row {last}")
            in_order = False
        last = shard.last_row
    return in_order
