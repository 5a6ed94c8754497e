"""A short name for each of several places: the part of each that tells them apart."""

from collections.abc import Sequence


def short_names(uris: Sequence[str]) -> list[str]:
    """The last folder in which the places differ; their number besides where that is not enough."""
    parts = [uri.rstrip("/").split("/") for uri in uris]
    while len({tuple(path[-1:]) for path in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [path[:-1] for path in parts]
    names = [path[-1] or "/" for path in parts]
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, start=1)]
