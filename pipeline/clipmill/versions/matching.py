"""Which rows of the kept versions a takedown means: each id and content must be there, and no id may be a derived one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.schemas import HASHES, ORDINAL_SHIFT
from clipmill.datasets.manifests import INPUTS_FILE, Embeddings
from clipmill.embedding.layout import PARTS
from clipmill.versions.place import Place
from clipmill.versions.takedown import Takedown
from clipmill.versions.version import all_versions

_MOST_SHOWN = 20
_ROW_MASK = (1 << ORDINAL_SHIFT) - 1


@dataclass
class Matches:
    """What of a takedown is in the kept versions. ``near`` are ids there that differ from one that is not by white space,
    case or Unicode form only; ``derived`` are ids that clipmill made of file and row."""

    found: Takedown = field(default_factory=Takedown)
    near: dict[str, str] = field(default_factory=dict)
    derived: set[str] = field(default_factory=set)
    versions_without_hashes: list[str] = field(default_factory=list)


def kept_embeddings(place: Place) -> Iterator[tuple[str, Embeddings]]:
    """The name and the embeddings of every version that is there, the newest first."""
    for version in reversed(all_versions(place)):
        yield version.name, Embeddings.open((place.version(version.name) / "embeddings").uri)


def match(place: Place, wanted: Takedown) -> Matches:
    """Looks for ids and contents in every kept version; a pass over ids and hashes, a batch at a time."""
    matches = Matches()
    for name, dataset in kept_embeddings(place):
        if wanted.contents and not dataset.manifest.has_hashes:
            matches.versions_without_hashes.append(name)
        _match_ids(dataset, wanted.ids, matches)
        matches.found |= Takedown(contents=frozenset(_hashes_in(dataset, wanted.contents)))
    return matches


def refuse_unmatched(matches: Matches, wanted: Takedown, *, allow: bool) -> None:
    """Raises UserError where an id is a derived one, and, unless allowed, where an id or a content is in no version."""
    if matches.derived:
        raise UserError(
            f"{_listed(matches.derived)}: clipmill made these ids of file and row, since the input has none there; when a "
            "file changes, another picture has them. Take such pictures down by what they are: --content FILE"
        )
    missing = [_told(one, matches) for one in sorted(wanted.ids - matches.found.ids)]
    missing += [f"content {one}" for one in sorted(wanted.contents - matches.found.contents)]
    if not missing or allow:
        return
    old = matches.versions_without_hashes
    reason = (
        f". Of version {old[0]} the contents are not known, since it was made before clipmill kept them: with "
        "--allow-unmatched the next run encodes all rows again and leaves these out"
        if old
        else "; nothing was recorded. Correct them, or give --allow-unmatched for what may come later"
    )
    raise UserError(f"in no version: {_listed(missing)}{reason}")


def _told(one: str, matches: Matches) -> str:
    return f"{one!r} (there is {matches.near[one]!r})" if one in matches.near else repr(one)


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - _MOST_SHOWN:,} more" if len(ordered) > _MOST_SHOWN else ""
    return ", ".join(ordered[:_MOST_SHOWN]) + rest


def _match_ids(dataset: Embeddings, ids: frozenset[str], matches: Matches) -> None:
    if not ids:
        return
    wanted, folded = pa.array(sorted(ids), pa.string()), {_folded(one): one for one in ids}
    near, names = pa.array(sorted(folded), pa.string()), _names_of(dataset)
    for part in PARTS:
        for batch in dataset.batches(part, ["row", "id"]) if dataset.shards_of(part) else ():
            there = batch.filter(pc.is_in(batch.column("id"), value_set=wanted))
            matches.found |= Takedown(frozenset(there.column("id").to_pylist()))
            pairs = zip(there.column("row").to_pylist(), there.column("id").to_pylist(), strict=True)
            matches.derived |= {one for row, one in pairs if one == _derived(names, row)}
            like = pc.is_in(_fold(batch.column("id")), value_set=near)
            for one in batch.column("id").filter(like).to_pylist():
                matches.near[folded[_folded(one)]] = one


def _hashes_in(dataset: Embeddings, contents: frozenset[str]) -> Iterator[str]:
    if not contents or not dataset.manifest.has_hashes:
        return
    wanted = hashes_array(contents)
    for part, column in HASHES.items():
        for batch in dataset.batches(part, [column]) if dataset.shards_of(part) else ():
            for digest in batch.column(0).filter(pc.is_in(batch.column(0), value_set=wanted)).to_pylist():
                yield digest.hex()


def hashes_array(contents: Iterable[str]) -> pa.Array:
    """sha256 in hex as the column `IMAGE_SHA256` has them."""
    return pa.array([bytes.fromhex(one) for one in sorted(contents)], pa.binary(32))


def _names_of(dataset: Embeddings) -> dict[int, str]:
    table = storage.read_table(dataset.location / INPUTS_FILE)
    paths = [path.rsplit("/", 1)[-1] for path in table.column("path").to_pylist()]
    return dict(zip(table.column("ordinal").to_pylist(), paths, strict=True))


def _derived(names: dict[int, str], row: int) -> str:
    """The id that a row without one gets (`clipmill.source.reading`)."""
    return f"{names.get(row >> ORDINAL_SHIFT)}:{row & _ROW_MASK}"


def _fold(ids: pa.Array) -> pa.Array:
    normal = pc.utf8_normalize(ids, form="NFKC")
    return pc.utf8_lower(pc.utf8_trim_whitespace(normal))


def _folded(one: str) -> str:
    """As `_fold`, by the same functions, of a single id."""
    folded: str = _fold(pa.array([one]))[0].as_py()
    return folded
