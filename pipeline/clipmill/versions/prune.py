"""Removing versions that nobody needs any more. Versions share no file by name, so removing one takes from no other."""

from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass

from clipmill import storage
from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.errors import ClipmillError, RunFailed
from clipmill.core.manifests import EmbeddingsManifest, IndexManifest
from clipmill.datasets.manifests import find_manifest, read_shards
from clipmill.storage import Location
from clipmill.storage.copies import forget
from clipmill.storage.lease import Lease
from clipmill.versions.place import Place
from clipmill.versions.pointer import read_pointer
from clipmill.versions.takedown import read_removed
from clipmill.versions.unfinished import read_unfinished
from clipmill.versions.version import VERSION_FILE, all_versions, folders, named_versions


@dataclass(frozen=True)
class Pruning:
    """``removed`` versions, with the reason for each; ``halves``: what no run will finish; ``waiting``: the current version
    where it holds what was taken down since."""

    removed: list[tuple[str, str]]
    halves: list[str]
    kept: list[str]
    waiting: str | None


def plan_pruning(place: Place, keep: int) -> Pruning:
    """The newest ``keep`` versions stay, and always the current one; but no other from before a takedown."""
    versions, current = all_versions(place), read_pointer(place).name
    taken_down = len(read_removed(place))
    newest = {version.name for version in versions[-keep:]} if keep else set()
    removed = [
        (
            version.name,
            "it is from before something was taken down" if version.removed < taken_down else "it is an old one",
        )
        for version in versions
        if version.name != current and (version.name not in newest or version.removed < taken_down)
    ]
    gone = {name for name, _ in removed}
    waiting = next((one.name for one in versions if one.name == current and one.removed < taken_down), None)
    halves = folders(place) - set(named_versions(place)) - {_under_way(place)}
    kept = [version.name for version in versions if version.name not in gone]
    return Pruning(removed, sorted(halves), kept, waiting)


def prune(place: Place, pruning: Pruning, lease: Lease) -> None:
    """Removes what was planned, what makes a version one first. ``lease`` is that of the pointer; the caller holds that of
    the run too.

    Raises RunFailed where a version became the current one meanwhile, or cannot be deleted.
    """
    shared = {digest for name in pruning.kept for digest in _digests(place.version(name))}
    for name in [*(name for name, _ in pruning.removed), *pruning.halves]:
        lease.check()
        if read_pointer(place).name == name:
            raise RunFailed(f"version {name} became the current one meanwhile and is kept; run the same command again")
        remove_version(place, name, shared)


def remove_version(place: Place, name: str, shared: Set[str] = frozenset()) -> None:
    """A version that is not read any more, and the copies that this machine has of files which no other version shares."""
    forget(DEFAULT_CACHE, _digests(place.version(name)) - shared)
    storage.remove_files(place.version(name), [VERSION_FILE])
    storage.remove(place.version(name))


def _digests(folder: Location) -> set[str]:
    """The sha256 of the files of a version on S3, as far as its lists can be read."""
    found: set[str] = set()
    if folder.is_local:
        return found
    for part in ("embeddings", "index"):
        with suppress(ClipmillError):
            manifest = find_manifest(folder / part)
            if isinstance(manifest, EmbeddingsManifest | IndexManifest):
                found |= {file.sha256 for file in read_shards(folder / part, manifest.shards_sha256)}
    return found


def _under_way(place: Place) -> str | None:
    found = read_unfinished(place)
    return found.name if found else None
