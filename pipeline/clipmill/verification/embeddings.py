"""An embeddings dataset: every input row is one image or one reject, every caption likewise, every vector is sound."""

import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import ClipmillError, StorageFailed, StorageRefused
from clipmill.core.reporter import Reporter, Tally
from clipmill.datasets.manifests import INPUTS_FILE, LISTING_FILE, Embeddings
from clipmill.datasets.shards import SHARDS_FILE, Shard
from clipmill.embedding.layout import parts_of
from clipmill.storage import Location
from clipmill.verification.contents import Contents, read_contents
from clipmill.verification.files import check_files, check_order
from clipmill.verification.findings import Findings
from clipmill.verification.ids import RepeatedIds
from clipmill.verification.parallel import Advance, Looking, Threads, in_order, threads_for
from clipmill.verification.rows import ITEMS, RowAccount
from clipmill.verification.sources import check_inputs_table, check_listing, check_sources, source_files
from clipmill.verification.tables import check_footer, open_parquet, part_schema, reading

_QUICK_LEAVES_OUT = [
    "the bytes of the shards (--quick reads their footers only): bit flips, vectors, and single rows inside a shard",
    "the source files",
]


def verify_embeddings(uri: str, *, quick: bool, reporter: Reporter, looking: Looking | None = None) -> Findings:
    """Checks the dataset at ``uri``; ``quick`` reads no shard, only the tables beside them and their footers. Shards are
    looked through by ``looking``, in threads where it is None.

    Memory holds the list of shards, the row numbers of a few shards and a batch of vectors a thread, whatever the size.
    """
    dataset = Embeddings.open(uri)
    findings = Findings("embeddings", dataset.location.uri)
    if not _check_tables(dataset, findings):
        findings.unchecked.append("the files of the dataset, since its lists are damaged")
        return findings
    tables = (INPUTS_FILE, SHARDS_FILE, *([LISTING_FILE] if dataset.manifest.listing_sha256 else []))
    present = check_files(dataset.location, dataset.shards, tables, findings)
    parts = parts_of(dataset.manifest)
    ordered = [
        check_order(dataset.shards_of(part), findings, repeats=part in ("captions", "rejected")) for part in parts
    ]
    _check_counts(dataset, findings)
    schemas = _schemas(dataset, present)
    if quick:
        findings.unchecked += _QUICK_LEAVES_OUT
        _check_footers(dataset, present, schemas, findings, reporter)
        return findings
    complete = len(present) == len(dataset.shards) and all(ordered)
    looking = looking or Threads(threads_for(local=dataset.location.is_local))
    _check_contents(dataset, present, schemas, findings, reporter, looking, complete=complete)
    check_sources(dataset, findings)
    return findings


def _check_tables(dataset: Embeddings, findings: Findings) -> bool:
    """Whether the two tables beside the shards are those of the manifest and agree with its counts."""
    inputs = dataset.location / INPUTS_FILE
    try:
        dataset.shards  # noqa: B018
    except (StorageFailed, StorageRefused):
        raise
    except ClipmillError as error:
        findings.fault(str(error))
    if not storage.exists(inputs):
        findings.fault(f"{INPUTS_FILE} is missing")
    elif storage.sha256(inputs) != dataset.manifest.inputs_sha256:
        findings.fault(f"{INPUTS_FILE} is not the one that the manifest was written with")
    else:
        check_inputs_table(dataset, findings)
        return check_listing(dataset, findings) and "shards" in vars(dataset)
    return False


def _check_counts(dataset: Embeddings, findings: Findings) -> None:
    counts = dataset.manifest.counts
    clips = {part: one.vectors for part, one in counts.clips.items()}
    expected = {"images": counts.images, **clips, "captions": counts.captions, "rejected": counts.rejected}
    for part, wanted in expected.items():
        found = dataset.count(part)
        findings.count(part, found)
        if found != wanted:
            findings.fault(f"{part}: shards.parquet counts {found} rows, the manifest {wanted}")
    for part in sorted({shard.part for shard in dataset.shards} - set(expected)):
        findings.fault(f"shards.parquet lists a part {part!r}, which embeddings do not have")
    if counts.images + counts.rejected_images + counts.without_image_column != counts.rows:
        findings.fault(
            "the manifest's images, rejected images and rows without an image column do not add up to its rows"
        )
    for part, one in counts.clips.items():
        if one.embedded + one.rejected + one.without_column != counts.rows:
            findings.fault(
                f"the manifest's {part}, those rejected and rows without such a column do not add up to its rows"
            )
    if sum(counts.rejected_by_reason.values()) != counts.rejected:
        findings.fault("the manifest's rejects by reason do not add up to its rejects")
    model = dataset.manifest.model
    if model is not None and model.dimension != dataset.manifest.dimension:
        findings.fault(f"the manifest's dimension is {dataset.manifest.dimension}, that of its model {model.dimension}")


def _schemas(dataset: Embeddings, present: list[Shard]) -> dict[str, pa.Schema]:
    """What columns each part must have; what the dataset leaves open is as in the first file of the part."""
    return {
        part: part_schema(dataset, part, _schema_of_first(dataset, present, part))
        for part in parts_of(dataset.manifest)
    }


def _schema_of_first(dataset: Embeddings, present: list[Shard], part: str) -> pa.Schema | None:
    first = next((shard for shard in present if shard.part == part), None)
    if first is None:
        return None
    parquet = reading(first.name, Findings("", ""), lambda: open_parquet(first.at(dataset.location)))
    return parquet.schema_arrow if parquet else None


def _check_footers(
    dataset: Embeddings, present: list[Shard], schemas: dict[str, pa.Schema], findings: Findings, reporter: Reporter
) -> None:
    def footer(shard: Shard) -> Findings:
        found = findings.part()
        parquet = reading(shard.name, found, lambda: open_parquet(shard.at(dataset.location)))
        if parquet is not None:
            check_footer(parquet, shard, schemas[shard.part], found)
        return found

    known = [shard for shard in present if shard.part in schemas]
    tally = Tally(reporter, "verify", len(known), "files")
    for found in in_order(footer, known, threads_for(local=dataset.location.is_local)):
        findings.add(found)
        tally.add(1)


def _read(dataset: Location, schemas: dict[str, pa.Schema], advance: Advance, shard: Shard) -> Contents:
    findings = Findings("embeddings", dataset.uri)
    with tempfile.TemporaryDirectory(prefix="clipmill-verify-") as scratch:
        return read_contents(dataset, shard, schemas[shard.part], Path(scratch), findings, advance)


def _check_contents(
    dataset: Embeddings,
    present: list[Shard],
    schemas: dict[str, pa.Schema],
    findings: Findings,
    reporter: Reporter,
    looking: Looking,
    *,
    complete: bool,
) -> None:
    """Looks through every file, in order of their first rows, and settles rows as far as they are complete."""
    along_rows = sorted(
        (shard for shard in present if shard.part in schemas),
        key=lambda shard: -1 if shard.first_row is None else shard.first_row,
    )
    items = ("images", *dataset.manifest.counts.clips)
    account = RowAccount(source_files(dataset), items, partial(_holders, dataset), findings)
    ids, reasons, compressed = RepeatedIds(), Counter[str](), 0

    def take(contents: Contents) -> None:
        nonlocal complete, compressed
        findings.add(contents.findings)
        compressed += contents.compressed
        reasons.update(contents.reasons)
        for hashes in contents.id_hashes:
            ids.add(hashes)
        complete = complete and contents.sound
        if complete:
            account.settle(contents.shard.first_row or 0)
            for stream, (rows, index) in contents.keys.items():
                account.add(stream, rows, index)

    tally = Tally(reporter, "verify", sum(shard.bytes for shard in along_rows), "B")
    looking.each(partial(_read, dataset.location, schemas), along_rows, tally, take)
    if complete:
        account.finish()
        _check_sums(dataset, account, reasons, findings)
    else:
        findings.unchecked.append("that every row ended exactly once, since files are missing, damaged or out of order")
    if compressed:
        findings.notes.append(f"the embeddings of {compressed} files are compressed, which makes them slow to read")
    _note_repeated_ids(ids, dataset.count("images"), findings)


def _check_sums(dataset: Embeddings, account: RowAccount, reasons: Counter[str], findings: Findings) -> None:
    counts = dataset.manifest.counts
    without = {"images": counts.without_image_column}
    for part, expected in (without | {part: one.without_column for part, one in counts.clips.items()}).items():
        if account.without[part] != expected:
            findings.fault(
                f"{account.without[part]} rows are of files without any {ITEMS[part].split()[-1]}, the manifest counts "
                f"{expected}"
            )
    for reason in sorted(set(reasons) | set(counts.rejected_by_reason)):
        counted = counts.rejected_by_reason.get(reason, 0)
        if reasons[reason] != counted:
            findings.fault(f"there are {reasons[reason]} rejects of reason {reason}, the manifest counts {counted}")


def _holders(dataset: Embeddings, part: str, row: int) -> str:
    """The files of a part whose range of rows this row is in, or the one where it would be."""
    spans = [(one.first_row or 0, one.last_row or 0, one.name) for one in dataset.shards_of(part) if one.rows]
    found = [path for first, last, path in spans if first <= row <= last]
    if not found:
        found = [path for first, _, path in spans if first <= row][-1:] or [path for _, _, path in spans[:1]] or [part]
    return " and ".join(found)


def _note_repeated_ids(ids: RepeatedIds, images: int, findings: Findings) -> None:
    if ids.repeated:
        about = "" if ids.exact else "about "
        findings.notes.append(
            f"{about}{ids.repeated:,} of {images:,} images have an id that another has too (ids need not be unique)"
        )
