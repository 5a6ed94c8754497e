"""Near-duplicates and selections: their files are unaltered, and agree with their manifest and with each other."""

import numpy as np
import pyarrow.compute as pc

from clipmill import storage
from clipmill.core.errors import ClipmillError, StorageFailed, StorageRefused
from clipmill.core.manifests import DuplicatesManifest, SelectionManifest
from clipmill.core.reporter import Reporter, Tally
from clipmill.curate.filter import DROPPED, KEPT
from clipmill.curate.published import GROUPS_FILE, PAIRS_FILE
from clipmill.datasets.manifests import read_manifest
from clipmill.datasets.shards import SHARDS_FILE, Shard, read_shards
from clipmill.storage import Location
from clipmill.verification.duplicates import check_cosines, check_groups, check_manifest
from clipmill.verification.files import check_files, check_order
from clipmill.verification.findings import Findings
from clipmill.verification.parents import parent_is_there
from clipmill.verification.tables import open_parquet, reading


def verify_duplicates(uri: str, *, quick: bool, reporter: Reporter) -> Findings:
    """Checks near-duplicates; ``quick`` compares no checksums and reads no rows."""
    location = storage.resolve(uri)
    manifest = read_manifest(location, DuplicatesManifest)
    findings = Findings("duplicates", location.uri)
    sound, parent = _check_all(location, manifest, findings, quick=quick, reporter=reporter)
    expected = {PAIRS_FILE: manifest.pairs, GROUPS_FILE: manifest.rows_in_groups}
    for path, rows in expected.items():
        listed = sum(shard.rows for shard in sound if shard.path == path)
        if any(shard.path == path for shard in sound) and listed != rows:
            findings.fault(f"{path} holds {listed} rows, the manifest counts {rows}")
    check_manifest(manifest, findings)
    if not quick and {shard.path for shard in sound} == set(expected):
        pairs, groups = (storage.read_table(location / name) for name in (PAIRS_FILE, GROUPS_FILE))
        check_groups(manifest, pairs, groups, findings)
        if parent is not None:
            check_cosines(manifest, pairs, parent.uri, findings)
    return findings


def verify_selection(uri: str, *, quick: bool, reporter: Reporter) -> Findings:
    """Checks rows kept and dropped; ``quick`` compares no checksums and reads no rows."""
    location = storage.resolve(uri)
    manifest = read_manifest(location, SelectionManifest)
    findings = Findings("selection", location.uri)
    sound, _ = _check_all(location, manifest, findings, quick=quick, reporter=reporter)
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
    parquet = reading(shard.path, findings, lambda: open_parquet(shard.at(location)))
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
) -> tuple[list[Shard], Location | None]:
    """What both kinds have: the files, their checksums and footers, and the embeddings. Returns the sound files, and where the
    embeddings are, if they are still those."""
    try:
        shards = read_shards(location, manifest.shards_sha256)
    except (StorageFailed, StorageRefused):
        raise
    except ClipmillError as error:
        findings.fault(str(error))
        findings.unchecked.append("the files, since their list is damaged")
        return [], None
    parent = parent_is_there("embeddings dataset", manifest.embeddings, manifest.embeddings_manifest_sha256, findings)
    sound = []
    tally = Tally(reporter, "verify", sum(shard.bytes for shard in shards), "B")
    for shard in check_files(location, shards, (SHARDS_FILE,), findings):
        parquet = reading(shard.path, findings, lambda shard=shard: open_parquet(shard.at(location)))  # type: ignore[misc]
        if not quick and storage.sha256(shard.at(location)) != shard.sha256:
            findings.fault(f"{shard.path} was altered: its sha256 is not the one in {SHARDS_FILE}")
        elif parquet is not None and parquet.metadata.num_rows != shard.rows:
            findings.fault(f"{shard.path} holds {parquet.metadata.num_rows} rows and not {shard.rows}")
        elif parquet is not None:
            sound.append(shard)
            findings.count("rows", shard.rows)
        tally.add(shard.bytes)
    if quick:
        findings.unchecked.append("the bytes of the files (--quick reads footers only)")
    return sound, parent
