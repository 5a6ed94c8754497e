"""An index: its files are unaltered, its shards come from one training, and each position is one row of its embeddings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.datasets import MANIFEST, SHARDS_FILE, Shard, read_manifest, read_shards
from pipeline.errors import ClipmillError
from pipeline.index.layout import TRAINED_FILE
from pipeline.index.open import DEFAULT_CACHE, open_files
from pipeline.schemas import IndexManifest
from pipeline.storage import Location
from pipeline.verify.embeddings import UNIT_TOLERANCE
from pipeline.verify.files import check_files
from pipeline.verify.findings import Findings

_BATCH = 65_536


def verify_index(uri: str, *, quick: bool, on_progress: Callable[[int], None], cache: Path = DEFAULT_CACHE) -> Findings:
    """Checks the index at ``uri``; ``quick`` looks at sizes and at the small files only. ``on_progress`` is given bytes."""
    location = storage.resolve(uri)
    manifest = read_manifest(location, IndexManifest)
    findings = Findings("index", location.uri)
    try:
        shards = read_shards(location, manifest.shards_sha256)
    except ClipmillError as error:
        findings.fault(str(error))
        return findings
    others = (TRAINED_FILE, SHARDS_FILE)
    sound = check_files(location, shards, others, findings, quick=quick, on_progress=on_progress)
    rows = sum(shard.rows for shard in shards if shard.part == "index")
    if rows != manifest.n:
        findings.fault(f"the shards hold {rows} rows, the manifest counts {manifest.n}")
    findings.count("rows", rows)
    if storage.exists(location / TRAINED_FILE) and storage.sha256(location / TRAINED_FILE) != manifest.trained_sha256:
        findings.fault(f"{TRAINED_FILE} was altered, or comes from another index")
    _check_parent(manifest, findings)
    if quick or findings.faults or len(sound) < len(shards):
        return findings
    try:
        opened, _ = open_files(location, shards, manifest.trained_sha256, cache)
    except ClipmillError as error:
        findings.fault(str(error))
        return findings
    for array, shard in zip(opened.vectors.shards, _of(shards, "vectors"), strict=True):
        _check_vectors(array, shard, findings)
    for numbers, shard in zip(opened.rows, _of(shards, "row_table"), strict=True):
        _check_row_table(location, np.asarray(numbers), shard, findings)
    return findings


def _of(shards: list[Shard], part: str) -> list[Shard]:
    return [shard for shard in shards if shard.part == part]


def _check_parent(manifest: IndexManifest, findings: Findings) -> None:
    """The embeddings need not be there any more; if they are, they must be those that the index was made from."""
    try:
        parent = storage.resolve(manifest.embeddings)
        if not storage.exists(parent / MANIFEST):
            findings.notes.append(f"the embeddings at {manifest.embeddings} are not there to compare with")
        elif storage.sha256(parent / MANIFEST) != manifest.embeddings_manifest_sha256:
            findings.fault(f"the embeddings at {manifest.embeddings} are not those that this index was built from")
    except (ClipmillError, OSError) as error:
        findings.notes.append(f"the embeddings at {manifest.embeddings} could not be looked at: {error}")


def _check_vectors(array: np.ndarray, shard: Shard, findings: Findings) -> None:
    for start in range(0, len(array), _BATCH):
        vectors = np.asarray(array[start : start + _BATCH], np.float32)
        length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        for index in np.flatnonzero(~(np.abs(length - 1) <= UNIT_TOLERANCE)).tolist():
            findings.fault(f"{shard.path}: vector {start + index} is not of unit length ({length[index]})")
        findings.count("vectors", len(vectors))


def _check_row_table(location: Location, numbers: np.ndarray, shard: Shard, findings: Findings) -> None:
    place = location / shard.path
    with place.filesystem.open_input_file(place.path) as stream:
        rows = pq.read_table(stream, columns=["row"]).column("row").to_numpy()
    if not np.array_equal(rows, numbers):
        findings.fault(f"{shard.path} lists other rows than the array beside it")
