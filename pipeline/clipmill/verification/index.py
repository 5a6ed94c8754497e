"""An index: its files are unaltered, its shards come from one training, and each position is one row of its embeddings."""

from io import BytesIO

import numpy as np
import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import ClipmillError, StorageFailed, StorageRefused
from clipmill.core.manifests import IndexManifest
from clipmill.core.reporter import Reporter
from clipmill.core.schemas import FRAME, TIMESTAMP, captions_schema, images_schema, videos_schema
from clipmill.datasets.manifests import read_manifest
from clipmill.datasets.shards import SHARDS_FILE, Shard, read_shards
from clipmill.index.build.layout import QUERY_TRANSFORM_FILE, RANGES_FILE, TRAINED_FILE, parts_of
from clipmill.index.stored import Coding
from clipmill.storage import Location
from clipmill.verification.files import check_files, check_order
from clipmill.verification.findings import Findings
from clipmill.verification.index_shards import IndexShard, IndexWork, check_contents, check_heads
from clipmill.verification.parallel import Looking
from clipmill.verification.parents import embeddings_of
from clipmill.verification.sidecars import may_repeat
from clipmill.verification.tables import open_parquet, reading

_QUICK_LEAVES_OUT = [
    "the bytes of the shards (--quick reads headers, footers and the ends of row arrays only): bit flips, vectors, "
    "single rows inside a shard, whether codes come from this training, and files of equal shape under swapped names",
    "rows and vectors against the embeddings",
]


def verify_index(uri: str, *, quick: bool, reporter: Reporter, looking: Looking | None = None) -> Findings:
    """Checks the index at ``uri``; ``quick`` reads headers, footers and small files only. Shards are looked through by
    ``looking``, in threads where it is None.

    Memory holds the codes of one shard and a batch of vectors a thread.
    """
    location = storage.resolve(uri)
    manifest = read_manifest(location, IndexManifest)
    findings = Findings("index", location.uri)
    try:
        files = read_shards(location, manifest.shards_sha256)
    except (StorageFailed, StorageRefused):
        raise
    except ClipmillError as error:
        findings.fault(str(error))
        findings.unchecked.append("the files of the index, since their list is damaged")
        return findings
    common = _common_files(manifest)
    present = {file.name for file in check_files(location, files, (*common, SHARDS_FILE), findings)}
    shards = _shards(files, parts_of(manifest.rerank_vectors.kind), findings)
    _check_counts(manifest, files, shards, findings)
    there = [shard for shard in shards if all(file.name in present for file in shard.files)]
    gallery = embeddings_of(manifest, findings)
    whole = _check_common(location, common, findings)
    coding = _coding(location, manifest) if whole else None
    schema = _row_table_schema(location, manifest, there)
    check_order((shard.rows for shard in shards), findings, repeats=may_repeat(schema.names))
    work = IndexWork(location, manifest, schema, coding)
    if quick:
        findings.unchecked += _QUICK_LEAVES_OUT
        check_heads(work, there, findings, reporter)
    else:
        if gallery is None:
            findings.unchecked.append("rows and vectors against the embeddings")
        check_contents(work, there, gallery, findings, reporter, looking)
    return findings


def _shards(files: list[Shard], names: tuple[str, ...], findings: Findings) -> list[IndexShard]:
    """The files by shard; none, with a fault, where they do not go together."""
    parts = {part: [file for file in files if file.part == part] for part in names}
    for part in sorted({file.part for file in files} - set(names)):
        findings.fault(f"{SHARDS_FILE} lists a part {part!r}, which such an index does not have")
    described = {tuple((file.rows, file.first_row, file.last_row) for file in parts[part]) for part in names}
    if len(described) != 1:
        findings.fault(f"{SHARDS_FILE}: the codes and the files beside them do not hold the same rows")
        return []
    starts = np.cumsum([0, *(file.rows for file in parts["index"])], dtype=np.int64).tolist()
    groups = zip(*(parts[part] for part in names), strict=True)
    return [
        IndexShard(start, **dict(zip(names, group, strict=True))) for start, group in zip(starts, groups, strict=False)
    ]


def _check_counts(manifest: IndexManifest, files: list[Shard], shards: list[IndexShard], findings: Findings) -> None:
    rows = sum(file.rows for file in files if file.part == "index")
    findings.count("rows", rows)
    if rows != manifest.n:
        findings.fault(f"the shards hold {rows} rows, the manifest counts {manifest.n}")
    if shards and len(shards) != manifest.shards:
        findings.fault(f"there are {len(shards)} shards, the manifest counts {manifest.shards}")
    if manifest.model is not None and manifest.model.dimension != manifest.dimension:
        findings.fault(
            f"the manifest's dimension is {manifest.dimension}, that of its model {manifest.model.dimension}"
        )


def _row_table_schema(location: Location, manifest: IndexManifest, shards: list[IndexShard]) -> pa.Schema:
    """Identity, caption, and the columns kept from the source, whose types are those of the first file, as is whether
    captions of vectors made elsewhere may be null."""
    like = pa.schema([])
    if shards:
        first = shards[0].row_table.at(location)
        parquet = reading(first.name, Findings("", ""), lambda: open_parquet(first))
        like = parquet.schema_arrow if parquet else like
    if manifest.gallery == "captions":
        unknown = "caption" in like.names and like.field("caption").nullable
        schema = captions_schema(manifest.dimension, unknown=unknown)
        return pa.schema([schema.field(name) for name in ("row", "id", "caption_index", "caption")])
    schema = images_schema(manifest.dimension)
    kept = [
        pa.field(name, like.field(name).type if name in like.names else pa.null()) for name in manifest.kept_columns
    ]
    of_frames = videos_schema(manifest.dimension, frames=True) if FRAME in like.names else schema
    fields = [of_frames.field(name) for name in (FRAME, TIMESTAMP) if name in of_frames.names]
    return pa.schema([schema.field("row"), schema.field("id"), *fields, *kept])


def _common_files(manifest: IndexManifest) -> dict[str, str]:
    """The files that all shards share, and their sha256."""
    files = {TRAINED_FILE: manifest.trained_sha256}
    if manifest.query_transform is not None:
        files[QUERY_TRANSFORM_FILE] = manifest.query_transform.sha256
    if manifest.rerank_vectors.ranges_sha256 is not None:
        files[RANGES_FILE] = manifest.rerank_vectors.ranges_sha256
    return files


def _check_common(location: Location, expected: dict[str, str], findings: Findings) -> bool:
    """Whether the files that shards share are the manifest's; that one is missing was said before."""
    there = [name for name in expected if storage.exists(location / name)]
    altered = [name for name in there if storage.sha256(location / name) != expected[name]]
    for name in altered:
        findings.fault(f"{name} was altered, or comes from another index")
    return len(there) == len(expected) and not altered


def _coding(location: Location, manifest: IndexManifest) -> Coding:
    if manifest.rerank_vectors.ranges_sha256 is None:
        return Coding(manifest.dimension)
    ranges = np.load(BytesIO(storage.read_bytes(location / RANGES_FILE)), allow_pickle=False)
    return Coding(manifest.dimension, ranges)
