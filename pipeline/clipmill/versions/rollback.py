"""Switching the pointer back to a version that is there. Whoever does it holds the lease of the pointer."""

from clipmill.core.errors import UserError
from clipmill.versions.place import Place
from clipmill.versions.pointer import read_pointer, switch
from clipmill.versions.takedown import read_removed
from clipmill.versions.version import Version, all_versions, manifests_of


def roll_back(place: Place, to: str | None) -> tuple[str | None, str]:
    """The version that was current, and the one that is now: ``to``, else the newest one before the current.

    Raises UserError when there is no such version, when it is not whole, and when it may hold what was taken down
    since; RunFailed when the pointer was switched meanwhile.
    """
    seen = read_pointer(place)
    versions = all_versions(place)
    version = _chosen(place, versions, seen.name, to)
    if version.removed < len(read_removed(place)):
        raise UserError(
            f"version {version.name} was made before something was taken down, so it may hold that and is not shown again; "
            "roll back to a later one"
        )
    if manifests_of(place.version(version.name)) != version.manifests:
        raise UserError(f"version {version.name} was altered since it was made; choose another")
    switch(place, version, seen)
    return seen.name, version.name


def _chosen(place: Place, versions: list[Version], current: str | None, to: str | None) -> Version:
    names = [version.name for version in versions]
    if to is not None:
        found = next((version for version in versions if version.name == to), None)
        if found is None:
            raise UserError(f"{place.output} has no version {to}; there are {', '.join(names) or 'none'}")
        return found
    earlier = [version for version in versions if current is None or version.name < current]
    if not earlier:
        raise UserError(f"{place.output} has no version before {current}; `clipmill versions {place.output}` lists all")
    return earlier[-1]
