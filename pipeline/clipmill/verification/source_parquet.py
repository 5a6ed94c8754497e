"""Source Parquet of ours: its files are those that its manifest lists, unaltered, with the rows that it counts."""

from functools import partial

from clipmill import storage
from clipmill.core.manifests import SourceManifest
from clipmill.core.reporter import Reporter, Tally
from clipmill.datasets.manifests import read_manifest
from clipmill.datasets.shards import Shard
from clipmill.verification.files import check_files
from clipmill.verification.findings import Findings
from clipmill.verification.tables import open_parquet, reading


def verify_source(uri: str, *, quick: bool, reporter: Reporter) -> Findings:
    """Checks what `clipmill import` or `clipmill sample` wrote; ``quick`` compares no checksums."""
    location = storage.resolve(uri)
    manifest = read_manifest(location, SourceManifest)
    findings = Findings("source", location.uri)
    listed = [Shard("source", file.path, file.rows, file.bytes, file.sha256, None, None) for file in manifest.files]
    sound = check_files(location, listed, (), findings)
    tally = Tally(reporter, "verify", len(sound), "files")
    for file in sound:
        tally.add(1)
        if not quick and storage.sha256(location / file.path) != file.sha256:
            findings.fault(f"{file.path} was altered: its sha256 is not the one that the manifest lists")
            continue
        parquet = reading(file.path, findings, partial(open_parquet, location / file.path))
        if parquet is not None and parquet.metadata.num_rows != file.rows:
            findings.fault(f"{file.path} holds {parquet.metadata.num_rows} rows, the manifest says {file.rows}")
        findings.count("rows", file.rows)
    if sum(file.rows for file in manifest.files) != manifest.rows:
        findings.fault("the files of the manifest do not add up to its rows")
    if quick:
        findings.unchecked.append("checksums (--quick)")
    return findings
