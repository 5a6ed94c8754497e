"""Near-duplicates and selections: their files are unaltered, and agree with their manifest and with each other."""

import numpy as np
import pyarrow.compute as pc

from clipmill import storage
from clipmill.core.errors import ClipmillError, StorageFailed, StorageRefused
from clipmill.core.manifests import DuplicatesManifest, SelectionManifest
from clipmill.core.reporter import Reporter, Tally
from clipmill.curate.filter import DROPPED, KEPT
from clipmill.curate.near import MARGIN
from clipmill.curate.published import GROUPS_FILE, PAIRS_FILE
from clipmill.datasets.manifests import SHARDS_FILE, Shard, read_manifest, read_shards
from clipmill.storage import Location
from clipmill.verification.files import check_files, check_order
from clipmill.verification.findings import Findings
from clipmill.verification.parents import parent_is_there
from clipmill.verification.tables import open_parquet, reading


def verify_duplicates(uri: str, *, quick: bool, reporter: Reporter) -> Findings:
    """Checks near-duplicates; ``quick`` compares no checksums and reads no rows."""
    location = storage.resolve(uri)
    manifest = read_manifest(location, DuplicatesManifest)
    findings = Findings("duplicates", location.uri)
    sound = _check_all(location, manifest, findings, quick=quick, reporter=reporter)
    expected = {PAIRS_FILE: manifest.pairs, GROUPS_FILE: manifest.rows_in_groups}
    for path, rows in expected.items():
        listed = sum(shard.rows for shard in sound if shard.path == path)
        if any(shard.path == path for shard in sound) and listed != rows:
            findings.fault(f"{path} holds {listed} rows, the manifest counts {rows}")
    if not quick and {shard.path for shard in sound} == set(expected):
        _check_groups(location, manifest, findings)
    return findings


def _check_groups(location: Location, manifest: DuplicatesManifest, findings: Findings) -> None:
    pairs, groups = (storage.read_table(location / name) for name in (PAIRS_FILE, GROUPS_FILE))
    below = pc.sum(pc.less(pairs.column("cosine"), np.float32(manifest.threshold - MARGIN))).as_py()
    if below:
        findings.fault(f"{PAIRS_FILE}: {below} pairs have a cosine below the threshold of {manifest.threshold:g}")
    numbers, kept = groups.column("group").to_numpy(), groups.column("kept").to_numpy(zero_copy_only=False)
    if not np.array_equal(np.bincount(numbers, weights=kept), np.ones(manifest.groups)):
        findings.fault(f"{GROUPS_FILE}: not every one of {manifest.groups} groups keeps one row")
    names = ["row", "caption_index"] if manifest.gallery == "captions" else ["row"]
    members = groups.select([*names, "group"])
    both = pairs
    for side in "ab":
        found = members.rename_columns([f"{name}_{side}" for name in (*names, "group")])
        both = both.join(found, keys=[f"{name}_{side}" for name in names], join_type="left outer")
    together = pc.fill_null(pc.equal(both.column("group_a"), both.column("group_b")), False)
    if apart := len(together) - pc.sum(together).as_py() if len(together) else 0:
        findings.fault(f"{apart} pairs in {PAIRS_FILE} are not in one group in {GROUPS_FILE}")


def verify_selection(uri: str, *, quick: bool, reporter: Reporter) -> Findings:
    """Checks rows kept and dropped; ``quick`` compares no checksums and reads no rows."""
    location = storage.resolve(uri)
    manifest = read_manifest(location, SelectionManifest)
    findings = Findings("selection", location.uri)
    sound = _check_all(location, manifest, findings, quick=quick, reporter=reporter)
    rows: list[np.ndarray] = []
    for part, expected in ((KEPT, manifest.kept), (DROPPED, manifest.dropped)):
        shards = [shard for shard in sound if shard.part == part]
        check_order(shards, findings, repeats=False)
        if (listed := sum(shard.rows for shard in shards)) != expected:
            findings.fault(f"{part}/ holds {listed} rows, the manifest counts {expected}")
        if not quick:
            rows += [_check_selected(location, shard, findings) for shard in shards]
    if rows and len(np.unique(np.concatenate(rows))) != manifest.rows:
        findings.fault(f"{KEPT}/ and {DROPPED}/ do not hold each of {manifest.rows} rows once")
    return findings


def _check_selected(location: Location, shard: Shard, findings: Findings) -> np.ndarray:
    parquet = reading(shard.path, findings, lambda: open_parquet(location / shard.path))
    if parquet is None:
        return np.empty(0, np.int64)
    table = parquet.read(["row", *(["why"] if shard.part == DROPPED else [])])
    if shard.part == DROPPED and pc.sum(pc.equal(pc.list_value_length(table.column("why")), 0)).as_py():
        findings.fault(f"{shard.path} holds dropped rows without a reason")
    rows: np.ndarray = table.column("row").to_numpy()
    return rows


def _check_all(
    location: Location,
    manifest: DuplicatesManifest | SelectionManifest,
    findings: Findings,
    *,
    quick: bool,
    reporter: Reporter,
) -> list[Shard]:
    """What both kinds have: the files, their checksums and footers, and the embeddings. Returns the sound files."""
    try:
        shards = read_shards(location, manifest.shards_sha256)
    except (StorageFailed, StorageRefused):
        raise
    except ClipmillError as error:
        findings.fault(str(error))
        findings.unchecked.append("the files, since their list is damaged")
        return []
    parent_is_there("embeddings dataset", manifest.embeddings, manifest.embeddings_manifest_sha256, findings)
    sound = []
    tally = Tally(reporter, "verify", sum(shard.bytes for shard in shards), "B")
    for shard in check_files(location, shards, (SHARDS_FILE,), findings):
        parquet = reading(shard.path, findings, lambda shard=shard: open_parquet(location / shard.path))  # type: ignore[misc]
        if not quick and storage.sha256(location / shard.path) != shard.sha256:
            findings.fault(f"{shard.path} was altered: its sha256 is not the one in {SHARDS_FILE}")
        elif parquet is not None and parquet.metadata.num_rows != shard.rows:
            findings.fault(f"{shard.path} holds {parquet.metadata.num_rows} rows and not {shard.rows}")
        elif parquet is not None:
            sound.append(shard)
            findings.count("rows", shard.rows)
        tally.add(shard.bytes)
    if quick:
        findings.unchecked.append("the bytes of the files (--quick reads footers only)")
    return sound
