"""Captioned rows: every input row is there once, every text is kept or dropped as its score says, and the counts are theirs."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmill import storage
from clipmill.core.reporter import Reporter, Tally
from clipmill.core.schemas import DROPPED_TEXTS, ORDINAL_SHIFT, Reason, captioned_schema
from clipmill.core.text_manifests import CaptionedManifest
from clipmill.datasets.manifests import INPUTS_FILE, read_manifest
from clipmill.datasets.shards import SHARDS_FILE, Shard
from clipmill.storage import Location
from clipmill.verification.findings import Findings
from clipmill.verification.parts import CountedPart, check_parts
from clipmill.verification.tables import open_parquet, reading

_BELOW = "below_threshold"
_SOURCES = ("original", "generated")


def verify_captioned(uri: str, *, quick: bool, reporter: Reporter) -> Findings:
    """Checks captioned rows; ``quick`` compares no checksums and reads no rows. Memory holds a row group without pictures."""
    location = storage.resolve(uri)
    manifest = read_manifest(location, CaptionedManifest)
    findings = Findings("captioned", location.uri)
    parts = (
        CountedPart("captioned", manifest.counts.rows, repeats=False),
        CountedPart("dropped", sum(manifest.counts.dropped_by_reason.values()), repeats=True),
    )
    present = check_parts(location, manifest.shards_sha256, parts, findings, quick=quick)
    if present is None:
        return findings
    account, tally = _Account(), Tally(reporter, "verify", sum(shard.bytes for shard in present.shards), "B")
    whole = present.whole
    for shard in present.shards:
        whole = _read(location, shard, manifest, account, findings) and whole
        tally.add(shard.bytes)
    if whole:
        _check_counts(location, manifest, account, findings)
    else:
        findings.unchecked.append("that every row is there exactly once, since files are missing or damaged")
    return findings


@dataclass
class _Account:
    """Rows by the ordinal of their file, and what the files count."""

    rows: Counter[int] = field(default_factory=Counter)
    captioned: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    why: Counter[str] = field(default_factory=Counter)


def _read(location: Location, shard: Shard, manifest: CaptionedManifest, account: _Account, findings: Findings) -> bool:
    """Whether a file could be read to its end."""
    if storage.sha256(shard.at(location)) != shard.sha256:
        findings.fault(f"{shard.path} was altered: its sha256 is not the one in {SHARDS_FILE}")
        return False
    parquet = reading(shard.path, findings, lambda: open_parquet(shard.at(location)))
    if parquet is None:
        return False
    captioned = shard.part == "captioned"
    wanted = captioned_schema(manifest.image_column) if captioned else DROPPED_TEXTS
    schema = parquet.schema_arrow
    if any(name not in schema.names or schema.field(name).type != wanted.field(name).type for name in wanted.names):
        findings.fault(f"{shard.path} has other columns than {shard.part} rows have")
        return False
    columns = [name for name in wanted.names if name != manifest.image_column] if captioned else wanted.names
    take, rows, last = _take_captioned if captioned else _take_dropped, 0, -1
    for batch in parquet.iter_batches(columns=columns):
        numbers = batch.column("row").to_numpy()
        steps = np.diff(numbers, prepend=last if rows else numbers[:1] - 1)
        if len(numbers) and (steps < (1 if captioned else 0)).any():
            findings.fault(f"{shard.path}: rows are not in order, or are there twice")
        take(batch, shard.path, manifest, account, findings)
        rows, last = rows + batch.num_rows, int(numbers[-1]) if len(numbers) else last
    if rows != shard.rows:
        findings.fault(f"{shard.path} holds {rows} rows and not {shard.rows}")
    return True


def _take_captioned(
    batch: pa.RecordBatch, path: str, manifest: CaptionedManifest, account: _Account, findings: Findings
) -> None:
    ordinals, counts = np.unique(batch.column("row").to_numpy() >> ORDINAL_SHIFT, return_counts=True)
    account.rows.update(dict(zip(ordinals.tolist(), counts.tolist(), strict=True)))
    lengths = [pc.list_value_length(batch.column(name)) for name in ("caption", "caption_source", "score")]
    if any(not length.equals(lengths[0]) for length in lengths[1:]):
        findings.fault(f"{path}: caption, caption_source and score are not of one length")
    account.captioned += int(pc.sum(pc.greater(lengths[0], 0)).as_py() or 0)
    sources = batch.column("caption_source").flatten().to_pylist()
    account.kept.update(sources)
    _check_sources(sources, path, findings)
    scores = batch.column("score").flatten().to_numpy(zero_copy_only=False)
    if len(scores) and not (scores >= manifest.threshold.value).all():
        findings.fault(f"{path}: a text is kept that scores less than {manifest.threshold.value:g}")
    if any(text is None or not text.strip() for text in batch.column("caption").flatten().to_pylist()):
        findings.fault(f"{path}: a caption is empty")


def _take_dropped(
    batch: pa.RecordBatch, path: str, manifest: CaptionedManifest, account: _Account, findings: Findings
) -> None:
    sources, why = batch.column("caption_source").to_pylist(), batch.column("why").to_pylist()
    account.dropped.update(sources)
    account.why.update(why)
    _check_sources(sources, path, findings)
    if unknown := set(why) - {_BELOW, *(reason.value for reason in Reason)}:
        findings.fault(f"{path}: the reason {sorted(unknown)[0]!r} is none of ours")
    below = batch.filter(pc.equal(batch.column("why"), _BELOW)).column("score")
    if below.null_count or (len(below) and pc.max(below).as_py() >= manifest.threshold.value):
        findings.fault(f"{path}: a text is dropped that scores {manifest.threshold.value:g} or more")


def _check_sources(sources: list[Any], path: str, findings: Findings) -> None:
    if unknown := set(sources) - set(_SOURCES):
        findings.fault(
            f"{path}: caption_source is {sorted(map(str, unknown))[0]!r}, which is none of {', '.join(_SOURCES)}"
        )


def _check_counts(location: Location, manifest: CaptionedManifest, account: _Account, findings: Findings) -> None:
    counts = manifest.counts
    for name, found, told in (
        ("captioned rows", account.captioned, counts.captioned),
        ("kept captions", account.kept["original"], counts.kept_originals),
        ("kept texts that were written", account.kept["generated"], counts.kept_generated),
        ("captions", account.kept["original"] + account.dropped["original"], counts.originals),
        ("texts that were written", account.kept["generated"] + account.dropped["generated"], counts.generated),
    ):
        if found != told:
            findings.fault(f"the files have {found} {name}, the manifest counts {told}")
    if dict(account.why) != {why: count for why, count in counts.dropped_by_reason.items() if count}:
        findings.fault(f"the files have dropped texts {dict(account.why)}, the manifest {counts.dropped_by_reason}")
    place = location / INPUTS_FILE
    if storage.sha256(place) != manifest.inputs_sha256:
        findings.fault(f"{INPUTS_FILE} is not the one that the manifest was written with")
        return
    for entry in storage.read_table(place).to_pylist():
        found = account.rows.pop(entry["ordinal"], 0)
        if found != entry["rows"]:
            findings.fault(f"{entry['path']}: {found} of {entry['rows']} rows are there")
    if account.rows:
        findings.fault(f"rows of {len(account.rows)} files that {INPUTS_FILE} does not list")
