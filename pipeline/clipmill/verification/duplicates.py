"""Near-duplicates: pairs and groups agree with each other and with the manifest, and cosines with the vectors themselves."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.core.errors import ClipmillError
from clipmill.core.manifests import DuplicatesManifest
from clipmill.curate.near import MARGIN, unit
from clipmill.curate.published import GROUPS_FILE, PAIRS_FILE
from clipmill.datasets.manifests import vectors_of
from clipmill.index.build.gallery import Gallery
from clipmill.verification.findings import Findings

_PAIRS_COMPUTED = 64
"""Pairs whose cosine is computed again: each takes two row groups of the embeddings, which may lie anywhere."""
_SEED = 0
_ROUNDING = 1e-5


def check_groups(manifest: DuplicatesManifest, pairs: pa.Table, groups: pa.Table, findings: Findings) -> None:
    """Every pair reaches the threshold, one row of each group is kept, and pairs make these groups."""
    least = np.float32(manifest.threshold - MARGIN)
    if below := pc.sum(pc.less(pairs.column("cosine"), least)).as_py():
        findings.fault(f"{PAIRS_FILE}: {below} pairs have a cosine below the threshold of {manifest.threshold:g}")
    numbers, kept = groups.column("group").to_numpy(), groups.column("kept").to_numpy(zero_copy_only=False)
    if not np.array_equal(np.bincount(numbers, weights=kept), np.ones(manifest.groups)):
        findings.fault(f"{GROUPS_FILE}: not every one of {manifest.groups} groups keeps one row")
        return
    one, other = _groups_of_pairs(manifest, pairs, groups)
    together = (one == other) & (one >= 0)
    if manifest.linkage == "chain" and not together.all():
        findings.fault(f"{(~together).sum()} pairs in {PAIRS_FILE} are not in one group in {GROUPS_FILE}")
    if "least_cosine" in groups.column_names:
        _check_least(manifest, groups, one[together], pairs.column("cosine").to_numpy()[together], findings)


def _groups_of_pairs(
    manifest: DuplicatesManifest, pairs: pa.Table, groups: pa.Table
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The group of the first and of the second row of each pair (p,); −1 where a row is in none."""
    names = ["row", "caption_index"] if manifest.gallery == "captions" else ["row"]
    members = groups.select([*names, "group"])
    both = pairs.append_column("place", pa.array(np.arange(pairs.num_rows)))
    for side in "ab":
        found = members.rename_columns([f"{name}_{side}" for name in (*names, "group")])
        both = both.join(found, keys=[f"{name}_{side}" for name in names], join_type="left outer")
    both = both.sort_by("place")
    one, other = (pc.fill_null(both.column(f"group_{side}"), -1).to_numpy() for side in "ab")
    return one, other


def _check_least(
    manifest: DuplicatesManifest,
    groups: pa.Table,
    group_of_pair: NDArray[np.int64],
    cosine: NDArray[np.float32],
    findings: Findings,
) -> None:
    """The least cosine of a group is one, no greater than that of any of its pairs; that of all is the manifest's."""
    numbers, told = groups.column("group").to_numpy(), groups.column("least_cosine").to_numpy()
    if not len(numbers):
        return
    first = np.unique(numbers, return_index=True)[1]
    each = told[first]
    if uneven := len(np.unique(numbers[told != each[numbers]])):
        findings.fault(f"{GROUPS_FILE}: in {uneven} groups not every row has the same least_cosine")
    of_pairs = np.ones(manifest.groups, np.float32)
    np.minimum.at(of_pairs, group_of_pair, cosine)
    if above := int((each > of_pairs + _ROUNDING).sum()):
        findings.fault(
            f"{GROUPS_FILE}: in {above} groups least_cosine is greater than the cosine of a pair of the group"
        )
    if manifest.linkage == "complete" and (wide := int((each < manifest.threshold - _ROUNDING).sum())):
        findings.fault(
            f"{GROUPS_FILE}: {wide} groups hold two rows below the threshold, which --linkage complete rules out"
        )
    if manifest.least_cosine is None or abs(manifest.least_cosine - float(each.min())) > _ROUNDING:
        findings.fault(
            f"{GROUPS_FILE}: the least cosine is {each.min():.6f}, the manifest says {manifest.least_cosine}"
        )


def check_manifest(manifest: DuplicatesManifest, findings: Findings) -> None:
    """What was found by clusters has a recall that can be."""
    if manifest.method == "exact":
        return
    if manifest.recall is None or manifest.clusters is None:
        findings.fault("the manifest does not say what share of pairs was found, though they were found by clusters")
        return
    bands = [band.recall for band in manifest.recall.bands if band.recall is not None]
    whole = manifest.recall.recall
    if sum(band.n for band in bands) != (whole.n if whole is not None else 0):
        findings.fault("the manifest's bands of recall do not hold as many pairs as there are in all")


def check_cosines(manifest: DuplicatesManifest, pairs: pa.Table, uri: str, findings: Findings) -> None:
    """Computes the cosines of some pairs again, from the embeddings at ``uri``."""
    drawn = np.random.default_rng(_SEED).permutation(pairs.num_rows)[:_PAIRS_COMPUTED]
    some = pairs.take(np.sort(drawn))
    try:
        vectors = _vectors(
            Gallery.open(uri, manifest.gallery), {key for side in "ab" for key in _keys(some, f"_{side}")}
        )
    except ClipmillError as error:
        findings.fault(f"the embeddings that this was made from are damaged: {error}")
        return
    wrong = 0
    for first, second, told in zip(
        _keys(some, "_a"), _keys(some, "_b"), some.column("cosine").to_pylist(), strict=True
    ):
        if first not in vectors or second not in vectors:
            findings.fault(
                f"{PAIRS_FILE}: a pair names row {first[0]} or {second[0]}, which the embeddings do not hold"
            )
            return
        one, other = unit(np.stack([vectors[first], vectors[second]]))
        wrong += abs(float(one @ other) - told) > _ROUNDING
    if wrong:
        findings.fault(f"{PAIRS_FILE}: {wrong} of {len(drawn)} pairs looked at have another cosine by their vectors")
    findings.count("cosines", len(drawn))


def _keys(table: pa.Table, suffix: str = "") -> list[tuple[int, int]]:
    """Row and caption index (0 of what has none) of each row."""
    rows = table.column(f"row{suffix}").to_pylist()
    name = f"caption_index{suffix}"
    indices = table.column(name).to_pylist() if name in table.column_names else [0] * len(rows)
    return list(zip(rows, indices, strict=True))


def _vectors(gallery: Gallery, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], NDArray[np.float16]]:
    """The vectors of some rows, from the row groups that hold them."""
    rows = np.array(sorted({row for row, _ in wanted}), np.int64)
    found = {}
    for table in _row_groups(gallery, rows):
        for place, key in enumerate(_keys(table)):
            if key in wanted:
                found[key] = vectors_of(table.column("embedding").slice(place, 1))[0]
    return found


def _row_groups(gallery: Gallery, rows: NDArray[np.int64]) -> Iterator[pa.Table]:
    columns = ["row", *(["caption_index"] if gallery.part == "captions" else []), "embedding"]
    for number, shard in enumerate(gallery.files):
        if shard.first_row is None or shard.last_row is None or not _any_in(rows, shard.first_row, shard.last_row):
            continue
        file = gallery.open_file(number, pre_buffer=False)
        for group in range(file.num_row_groups):
            here = file.read_row_group(group, columns=["row"]).column("row")
            if _any_in(rows, here[0].as_py(), here[-1].as_py()):
                yield file.read_row_group(group, columns=columns)


def _any_in(rows: NDArray[np.int64], first: int, last: int) -> bool:
    start, stop = np.searchsorted(rows, first), np.searchsorted(rows, last, side="right")
    return bool(stop > start)
