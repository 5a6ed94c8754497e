"""Unfinished work towards an output: where it lies, which plan it belongs to, and what earlier starts did.

    .NAME.staging/publishing.json    what is being put in its place (`clipmill.stage.publication`)
    .NAME.staging/footers.arrow      what the footers of the input said, where a plan keeps it
    .NAME.staging/TOKEN/plan.json    what is being made; TOKEN follows from it, so plans cannot mix
    .NAME.staging/TOKEN/outline.json how much there is to do, for `clipmill status` (`clipmill.stage.outline`)
    .NAME.staging/TOKEN/runs.json    every start: when, and how many rows were done before it
    .NAME.staging/TOKEN/dataset/     what will be published

A plan is all that decides the content. Work that was done under one plan is never used under another.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from clipmill import storage
from clipmill.core.errors import ClipmillError, OutputDiffers
from clipmill.core.manifests import Run
from clipmill.stage import publication
from clipmill.stage.outline import Outline
from clipmill.storage import Location
from clipmill.storage.lease import Lease

OUTLINE = "outline.json"
_PLAN = "plan.json"


@dataclass(frozen=True)
class Started:
    """One start of a plan: when (UTC), what earlier starts did, and how many rows were done before this one."""

    at: datetime
    earlier: list[Run]
    rows_reused: int


@dataclass(frozen=True)
class Staging:
    """The staging folder of one plan. ``fingerprint`` is JSON that names everything the content follows from."""

    output: Location
    fingerprint: Mapping[str, Any]

    @cached_property
    def token(self) -> str:
        """A short name that follows from the fingerprint."""
        return hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()[:8]

    @cached_property
    def folder(self) -> Location:
        return storage.staging_of(self.output) / self.token

    @property
    def dataset(self) -> Location:
        return self.folder / "dataset"

    @property
    def shards(self) -> Location:
        return self.folder / "shards"

    def open(self, *, drop_others: bool = True) -> bool:
        """Makes or continues the folder; what is there of other plans goes. Whether there is work to go on with. The caller
        holds the lease. Raises OutputDiffers where work of another plan is there and may not be dropped: another run may
        have left it since `refuse_others` looked."""
        parent = storage.staging_of(self.output)
        there = _names_in(parent)
        others = sorted(_plans_among(there) - {self.token})
        if not drop_others:
            self._refuse(others)
        for token in others:
            storage.remove(parent / token)
        published = publication.read(self.output) if publication.RECORD in there else None
        mine = {name.partition("/")[2] for name in there if name.startswith(f"{self.token}/")}
        is_published = published is not None and published.token == self.token and published.is_complete(self.output)
        continued = _can_be_continued(mine) and not is_published
        if mine and not continued:
            storage.remove(self.folder)
        if published and not published.is_partial(self.output):
            publication.forget(self.output)
        if not continued:
            storage.write_bytes(self.folder / _PLAN, json.dumps(self.fingerprint).encode())
        _remove_halves(self.folder)
        return continued

    def write_outline(self, outline: Outline) -> None:
        """Tells those who look from outside how much there is to do (`clipmill.stage.status`)."""
        storage.write_bytes(self.folder / OUTLINE, outline.model_dump_json().encode())

    def names(self) -> list[str]:
        """The files in the folder, relative to it."""
        return [info.path[len(self.folder.path) + 1 :] for info in storage.list_files(self.folder)]

    def note_start(self, rows_reused: int) -> Started:
        """Records that work begins now; what earlier starts did follows from what was done at the beginning of each."""
        now = datetime.now(timezone.utc)
        place = self.folder / "runs.json"
        try:
            starts = json.loads(storage.read_bytes(place))
        except FileNotFoundError:
            starts = []
        starts.append({"started": now.isoformat(), "rows_reused": rows_reused})
        storage.write_bytes(place, json.dumps(starts).encode())
        earlier = [
            Run(
                started=datetime.fromisoformat(start["started"]),
                finished=None,
                rows_encoded=max(0, after["rows_reused"] - start["rows_reused"]),
                rows_reused=start["rows_reused"],
            )
            for start, after in itertools.pairwise(starts)
        ]
        return Started(now, earlier, rows_reused)

    def publish(self, last: str, sha256: str) -> None:
        """Puts the finished dataset in its place, the file called ``last`` at the end, which has this sha256, then removes
        all that was staged: the plan first, so that what a kill leaves behind is never taken for work to continue, and at
        last what says that it is published. The caller owns the folder, and has just made sure of it."""
        _remove_halves(self.dataset)
        made, old = publication.write_down(self.dataset, self.output, self.token, last, sha256)
        storage.publish(self.dataset, self.output, made, old, last=last)
        _remove_halves(self.output)
        storage.remove_file(self.folder / _PLAN)
        if self.folder.is_local:
            storage.remove(self.folder)
        storage.remove(storage.staging_of(self.output))  # on S3 in the order of names, in which the record is the last

    def is_published(self) -> bool:
        """Whether the output is what a run of this plan published that was killed before it had removed the rest."""
        found = publication.read(self.output)
        return found is not None and found.token == self.token and found.is_complete(self.output)

    def drop_leftovers(self) -> None:
        """Removes what a run of this plan left that was killed after publishing; the output is what the plan makes.

        Nothing is done while another run works towards the same output or where nothing may be removed, and work of
        other plans stays.
        """
        parent = storage.staging_of(self.output)
        with suppress(ClipmillError, OSError):
            if storage.begins_any(parent) or storage.has_retired(self.output):  # the folder, or the lease beside it
                with Lease.acquire(parent):
                    self._drop_published()
                    self.drop()

    def _drop_published(self) -> None:
        storage.remove_retired(self.output)
        published = publication.read(self.output)
        if published and published.is_complete(self.output):
            storage.remove_files(self.output, published.old)
            storage.remove(storage.staging_of(self.output) / published.token)

    def drop(self) -> None:
        """Removes all that was staged for this plan. The caller owns the folder."""
        parent = storage.staging_of(self.output)
        storage.remove(self.folder)
        published = publication.read(self.output)
        if not _plans_in(parent) and not (published and published.is_partial(self.output)):
            storage.remove(parent)

    def refuse_others(self) -> None:
        """Raises OutputDiffers when there is unfinished work of another plan, saying what differs. Looks only."""
        self._refuse(sorted(_plans_in(storage.staging_of(self.output)) - {self.token}))

    def _refuse(self, others: Iterable[str]) -> None:
        for found in _plans(storage.staging_of(self.output), others):
            wanted = json.loads(json.dumps(self.fingerprint))
            parts = " and ".join(_difference(key, found.get(key), wanted.get(key)) for key in _differing(found, wanted))
            raise OutputDiffers(
                f"an unfinished run towards {self.output} had other {parts}; run that one again to finish it, or "
                "--overwrite to drop what it did"
            )


def plans_towards(output: Location) -> Iterator[dict[str, Any]]:
    """The fingerprints of unfinished work towards an output, sorted by token."""
    parent = storage.staging_of(output)
    return _plans(parent, sorted(_plans_in(parent)))


def _plans(parent: Location, tokens: Iterable[str]) -> Iterator[dict[str, Any]]:
    for token in tokens:
        with suppress(FileNotFoundError):
            yield json.loads(storage.read_bytes(parent / token / _PLAN))


def _names_in(folder: Location) -> set[str]:
    return {info.path[len(folder.path) + 1 :] for info in storage.list_files(folder)}


def _plans_in(parent: Location) -> set[str]:
    return _plans_among(_names_in(parent))


def _plans_among(names: Iterable[str]) -> set[str]:
    return {name.split("/", 1)[0] for name in names if "/" in name}


def _can_be_continued(names: set[str]) -> bool:
    """Whether files of a plan's folder are work to go on with: not where the dataset was published and only the rest was
    left behind."""
    has_dataset, has_shards = (any(name.startswith(f"{part}/") for name in names) for part in ("dataset", "shards"))
    return _PLAN in names and (has_dataset or not has_shards)


def _differing(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]


def _difference(name: str, found: Any, wanted: Any) -> str:
    """A part of a plan that is another now; of a part with names, which of these are."""
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return name
    return (
        f"{name} ({', '.join(f'{key}: {found.get(key)}, now {wanted.get(key)}' for key in _differing(found, wanted))})"
    )


def _remove_halves(folder: Location) -> None:
    """Files that a killed writer was in the middle of; each may be as large as a shard. On S3 there are no such."""
    if not folder.is_local:
        return
    for info in storage.list_files(folder):
        if info.path.endswith(".tmp"):
            storage.remove(Location(folder.filesystem, info.path, info.path))
