"""Texts about pictures: every input row has its texts or a reject, every file is unaltered, and the counts are theirs."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.reporter import Reporter, Tally
from clipmill.core.schemas import ORDINAL_SHIFT, REJECTED, TEXTS, Reason
from clipmill.core.text_manifests import TextsManifest
from clipmill.datasets.manifests import INPUTS_FILE, read_manifest
from clipmill.datasets.shards import SHARDS_FILE, Shard
from clipmill.storage import Location
from clipmill.verification.findings import Findings
from clipmill.verification.parts import CountedPart, check_parts
from clipmill.verification.tables import open_parquet, reading

_SCHEMAS = {"texts": TEXTS, "rejected": REJECTED}
_FINISHES = ("stop", "length", "choice")
_ROW_MASK = (1 << ORDINAL_SHIFT) - 1
_TOLD = 3


def verify_texts(uri: str, *, quick: bool, reporter: Reporter) -> Findings:
    """Checks texts; ``quick`` compares no checksums and reads no rows. Memory holds one shard."""
    location = storage.resolve(uri)
    manifest = read_manifest(location, TextsManifest)
    findings = Findings("texts", location.uri)
    parts = (
        CountedPart("texts", manifest.counts.texts, repeats=True),
        CountedPart("rejected", sum(manifest.counts.rejected_by_reason.values()), repeats=True),
    )
    present = check_parts(location, manifest.shards_sha256, parts, findings, quick=quick)
    if present is None:
        return findings
    _check_rows(location, manifest, present.shards, findings, reporter, whole=present.whole)
    return findings


@dataclass
class _Account:
    """Rows that ended, by the ordinal of their file, and what the files count."""

    ended: Counter[int] = field(default_factory=Counter)
    beyond: dict[int, int] = field(default_factory=dict)
    answered: int = 0
    tokens: int = 0
    cut: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def _check_rows(
    location: Location,
    manifest: TextsManifest,
    present: list[Shard],
    findings: Findings,
    reporter: Reporter,
    *,
    whole: bool,
) -> None:
    account, tally = _Account(), Tally(reporter, "verify", sum(shard.bytes for shard in present), "B")
    by_number: dict[str, list[Shard]] = {}
    for shard in present:
        by_number.setdefault(shard.path.rsplit("/", 1)[-1], []).append(shard)
    for files in by_number.values():
        tables = {shard.part: _read(location, shard, findings) for shard in files}
        for shard in files:
            tally.add(shard.bytes)
        if any(table is None for table in tables.values()):
            whole = False
            continue
        texts, rejects = (tables.get(part) or _SCHEMAS[part].empty_table() for part in _SCHEMAS)
        _take(texts, rejects, int(manifest.configuration.get("candidates", 1)), files[0].path, account, findings)
    if not whole:
        findings.unchecked.append("that every row ended exactly once, since files are missing or damaged")
        return
    _check_inputs(location, manifest, account, findings)
    counts = manifest.counts
    for name, found, told in (
        ("answered", account.answered, counts.answered),
        ("tokens", account.tokens, counts.tokens),
        ("cut", account.cut, counts.cut),
    ):
        if found != told:
            findings.fault(f"the files have {found} {name}, the manifest counts {told}")
    if dict(account.reasons) != {reason: count for reason, count in counts.rejected_by_reason.items() if count}:
        findings.fault(f"the files have rejects {dict(account.reasons)}, the manifest {counts.rejected_by_reason}")


def _read(location: Location, shard: Shard, findings: Findings) -> pa.Table | None:
    if storage.sha256(shard.at(location)) != shard.sha256:
        findings.fault(f"{shard.path} was altered: its sha256 is not the one in {SHARDS_FILE}")
        return None
    parquet = reading(shard.path, findings, lambda: open_parquet(shard.at(location)))
    if parquet is None:
        return None
    wanted = _SCHEMAS.get(shard.part)
    if wanted is None or not parquet.schema_arrow.equals(wanted):
        findings.fault(f"{shard.path} has other columns than {shard.part} have")
        return None
    table: pa.Table = parquet.read()
    if table.num_rows != shard.rows:
        findings.fault(f"{shard.path} holds {table.num_rows} rows and not {shard.rows}")
        return None
    return table


def _take(
    texts: pa.Table, rejects: pa.Table, candidates: int, path: str, account: _Account, findings: Findings
) -> None:
    """One shard's rows: of each either a reject without a candidate, or all its candidates, each a text or a reject."""
    said = texts.select(["row", "candidate"])
    whole = rejects.filter(pc.is_null(rejects.column("caption_index")))
    single = rejects.filter(pc.is_valid(rejects.column("caption_index")))
    rows = np.concatenate([said.column("row").to_numpy(), single.column("row").to_numpy()])
    places = np.concatenate([said.column("candidate").to_numpy(), single.column("caption_index").to_numpy()])
    found, counts = np.unique(rows, return_counts=True)
    pairs = np.unique(np.stack([rows, places]), axis=1).shape[1]
    _tell_rows(
        f"{path}: not one text or reject for each of {candidates} candidates", found[counts != candidates], findings
    )
    if pairs != len(rows) or (len(places) and not (places.min() >= 0 and places.max() < candidates)):
        findings.fault(f"{path}: a candidate of a row is there twice, or is none of {candidates}")
    alone, repeated = np.unique(whole.column("row").to_numpy(), return_counts=True)
    _tell_rows(f"{path}: more than one reject", alone[repeated > 1], findings)
    _tell_rows(f"{path}: both a reject and texts", np.intersect1d(found, alone), findings)
    ended = np.union1d(found, alone)
    for ordinal, count in zip(*np.unique(ended >> ORDINAL_SHIFT, return_counts=True), strict=True):
        account.ended[int(ordinal)] += int(count)
        last = int((ended[ended >> ORDINAL_SHIFT == ordinal] & _ROW_MASK).max())
        account.beyond[int(ordinal)] = max(account.beyond.get(int(ordinal), 0), last)
    account.answered += len(np.unique(said.column("row").to_numpy()))
    account.tokens += pc.sum(texts.column("tokens")).as_py() or 0
    account.cut += int(pc.sum(pc.equal(texts.column("finish"), "length")).as_py() or 0)
    account.reasons.update(rejects.column("reason").to_pylist())
    _check_values(texts, rejects, path, findings)


def _check_values(texts: pa.Table, rejects: pa.Table, path: str, findings: Findings) -> None:
    logprobs = pc.drop_null(texts.column("logprob").combine_chunks()).to_numpy(zero_copy_only=False)
    if len(logprobs) and not (np.isfinite(logprobs).all() and (logprobs <= 1e-3).all()):
        findings.fault(f"{path}: a logprob is no logarithm of a probability")
    if unknown := set(texts.column("finish").to_pylist()) - set(_FINISHES):
        findings.fault(f"{path}: finish is {sorted(unknown)[0]!r}, which is none of {', '.join(_FINISHES)}")
    if unknown := set(rejects.column("reason").to_pylist()) - {reason.value for reason in Reason}:
        findings.fault(f"{path}: the reason {sorted(unknown)[0]!r} is none of ours")
    if any(not text.strip() for text in texts.column("text").to_pylist()):
        findings.fault(f"{path}: a text is empty")


def _tell_rows(what: str, rows: NDArray[np.int64], findings: Findings) -> None:
    if len(rows):
        some = ", ".join(map(str, rows[:_TOLD].tolist())) + (", …" if len(rows) > _TOLD else "")
        findings.fault(f"{what}: {len(rows)} rows ({some})")


def _check_inputs(location: Location, manifest: TextsManifest, account: _Account, findings: Findings) -> None:
    """Every row of every source file, but those of files without pictures."""
    place = location / INPUTS_FILE
    if storage.sha256(place) != manifest.inputs_sha256:
        findings.fault(f"{INPUTS_FILE} is not the one that the manifest was written with")
        return
    without = 0
    for entry in storage.read_table(place).to_pylist():
        found = account.ended.pop(entry["ordinal"], 0)
        if found == 0:
            without += entry["rows"]
        elif found != entry["rows"] or account.beyond[entry["ordinal"]] != entry["rows"] - 1:
            findings.fault(f"{entry['path']}: {found} of {entry['rows']} rows ended")
    if without != manifest.counts.without_image_column:
        findings.fault(
            f"{without} rows have neither text nor reject, the manifest counts {manifest.counts.without_image_column} of files "
            "without pictures"
        )
    if account.ended:
        findings.fault(f"rows of {len(account.ended)} files that {INPUTS_FILE} does not list")
