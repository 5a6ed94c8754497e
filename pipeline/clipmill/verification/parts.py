"""The files of a dataset by their parts: whether they are there, in order, and as many rows as its manifest counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipmill.core.errors import ClipmillError, StorageFailed, StorageRefused
from clipmill.datasets.manifests import INPUTS_FILE
from clipmill.datasets.shards import SHARDS_FILE, Shard, read_shards
from clipmill.storage import Location
from clipmill.verification.files import check_files, check_order
from clipmill.verification.findings import Findings


@dataclass(frozen=True)
class CountedPart:
    """A part with its rows by the manifest; ``repeats``: a row may have several lines."""

    name: str
    rows: int
    repeats: bool


@dataclass(frozen=True)
class PresentFiles:
    """The files that are there and as large as they should be, and whether these are all."""

    shards: list[Shard]
    whole: bool


def check_parts(
    location: Location, shards_sha256: str, parts: Sequence[CountedPart], findings: Findings, *, quick: bool
) -> PresentFiles | None:
    """The files whose rows are to be read; None where that is not wanted, or their list is damaged."""
    try:
        shards = read_shards(location, shards_sha256)
    except (StorageFailed, StorageRefused):
        raise
    except ClipmillError as error:
        findings.fault(str(error))
        findings.unchecked.append("the files, since their list is damaged")
        return None
    present = check_files(location, shards, (INPUTS_FILE, SHARDS_FILE), findings)
    for part in parts:
        of_part = [shard for shard in shards if shard.part == part.name]
        check_order(of_part, findings, repeats=part.repeats)
        listed = sum(shard.rows for shard in of_part)
        findings.count(part.name, listed)
        if listed != part.rows:
            findings.fault(f"{part.name}: {SHARDS_FILE} counts {listed} rows, the manifest {part.rows}")
    if quick:
        findings.unchecked.append("the bytes of the files (--quick reads their list only)")
        return None
    return PresentFiles(present, len(present) == len(shards))
