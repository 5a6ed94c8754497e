"""Removing versions that nobody needs any more. Files that one which stays names stay where they are, until none does."""

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

from clipmill import storage
from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.errors import ClipmillError, RunFailed
from clipmill.core.manifests import EmbeddingsManifest, IndexManifest
from clipmill.datasets.manifests import MANIFEST, find_manifest
from clipmill.datasets.shards import Shard, read_shards
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
    kept = [name for name in named_versions(place) if name not in gone]
    return Pruning(removed, leftovers(place), kept, waiting)


def prune(place: Place, pruning: Pruning, lease: Lease) -> None:
    """Removes what was planned, what makes a version one first. ``lease`` is that of the pointer; the caller holds that of
    the run too.

    Raises RunFailed where a version became the current one meanwhile, or cannot be deleted.
    """
    shared = {digest for name in pruning.kept for digest in _digests(place.version(name))}
    needed = _needed(place, pruning.kept)
    bare = _others(place) - set(pruning.halves)  # hold nothing but what was named, by versions that may be going now
    for name in [*(name for name, _ in pruning.removed), *pruning.halves, *sorted(bare)]:
        lease.check()
        if read_pointer(place).name == name:
            raise RunFailed(f"version {name} became the current one meanwhile and is kept; run the same command again")
        remove_version(place, name, shared, needed.get(name, frozenset()))


def leftovers(place: Place) -> list[str]:
    """Folders of versions that nobody finished or whose removal was broken off, which hold files that no version names; by
    name. That of a run under way is none."""
    others, needed = _others(place), _needed(place, named_versions(place))
    found = set()
    for info in storage.list_files(place.versions):
        name, _, file = info.path[len(place.versions.path) + 1 :].partition("/")
        if name in others and file not in needed.get(name, ()):
            found.add(name)
    return sorted(found)


def _others(place: Place) -> set[str]:
    """Folders that are no version, nor that of a run under way."""
    return folders(place) - set(named_versions(place)) - {_under_way(place)}


def _needed(place: Place, versions: Sequence[str]) -> dict[str, set[str]]:
    """Files that these versions name, and the one that a run is making."""
    under_way = _under_way(place)
    return named_by(place, [*versions, *([under_way] if under_way else [])])


def remove_version(place: Place, name: str, shared: Set[str] = frozenset(), needed: Set[str] = frozenset()) -> None:
    """A version that is not read any more, without the files (relative to it) that are ``needed`` by others, and the copies
    that this machine has of files which no other version shares."""
    folder = place.version(name)
    forget(DEFAULT_CACHE, _digests(folder) - shared)
    storage.remove_files(folder, [VERSION_FILE])
    if not needed:
        storage.remove(folder)
        return
    files = [info.path[len(folder.path) + 1 :] for info in storage.list_files(folder)]
    storage.remove_files(folder, sorted(set(files) - needed, key=lambda file: (not file.endswith(MANIFEST), file)))


def named_by(place: Place, versions: Iterable[str]) -> dict[str, set[str]]:
    """Files of other versions that these name: by version, relative to its folder. Raises what reading their lists raises:
    what is not known to be free is not removed."""
    found: dict[str, set[str]] = {}
    for folder in map(place.version, versions):
        for part, files in _lists_of(folder):
            for file in files:
                if file.version is not None:
                    found.setdefault(file.version, set()).add(f"{part}/{file.path}")
    return found


def _lists_of(folder: Location) -> Iterator[tuple[str, list[Shard]]]:
    """The files of the embeddings and the index of a version, of those that it has."""
    for part in ("embeddings", "index"):
        manifest = find_manifest(folder / part)
        if isinstance(manifest, EmbeddingsManifest | IndexManifest):
            yield part, read_shards(folder / part, manifest.shards_sha256)


def _digests(folder: Location) -> set[str]:
    """The sha256 of the files of a version on S3, as far as its lists can be read."""
    found: set[str] = set()
    if folder.is_local:
        return found
    with suppress(ClipmillError):
        for _, files in _lists_of(folder):
            found |= {file.sha256 for file in files}
    return found


def _under_way(place: Place) -> str | None:
    found = read_unfinished(place)
    return found.name if found else None
