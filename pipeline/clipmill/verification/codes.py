"""The FAISS file of one shard: it comes from the training it should, and holds each of its positions once.

FAISS trusts what it reads, so files are read only after their sha256 was found right.
"""

import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from clipmill.core.manifests import IndexManifest
from clipmill.datasets.shards import Shard
from clipmill.index.build.belong import vectors_belong
from clipmill.index.build.layout import TRAINED_FILE
from clipmill.index.build.train import codebook_sha256
from clipmill.index.faiss_file import read_index
from clipmill.index.sides import bare
from clipmill.index.stored import Coding
from clipmill.storage import Location
from clipmill.verification.findings import Findings
from clipmill.verification.sidecars import Sidecar

_HEADER = struct.Struct("<4siq")
_one_at_a_time = threading.Lock()
"""An index is in memory whole while it is looked at."""


def check_codes_header(location: Location, shard: Shard, dimension: int, findings: Findings) -> None:
    """Dimension and number of vectors, from the first bytes of the file."""
    with location.filesystem.open_input_file(location.path) as stream:
        head = stream.read(_HEADER.size)
    if len(head) < _HEADER.size or not head.startswith(b"I"):
        findings.fault(f"{shard.path} is not a FAISS index")
        return
    _, d, n = _HEADER.unpack(head)
    if (d, n) != (dimension, shard.rows):
        findings.fault(f"{shard.path} holds {n} vectors of {d} dimensions and should hold {shard.rows} of {dimension}")


@dataclass(frozen=True)
class Training:
    """The trained index, and the fingerprint that shards of it have: without its transforms where shards hold none."""

    index: Any
    codebook: str

    @staticmethod
    def read(path: Path, manifest: IndexManifest) -> "Training":
        """Raises RuntimeError where the file is no index."""
        index = read_index(str(path))
        return Training(index, codebook_sha256(index if manifest.query_transform is None else bare(index)))


def check_codes(
    path: Path,
    shard: Shard,
    dimension: int,
    training: Training,
    vectors: Sidecar | None,
    coding: Coding,
    findings: Findings,
) -> None:
    """``vectors`` is the sound file beside the shard, compared by a sample."""
    with _one_at_a_time:
        try:
            index = read_index(str(path))
        except RuntimeError as error:
            findings.fault(f"{shard.path} is not a FAISS index: {str(error).splitlines()[-1]}")
            return
        if codebook_sha256(index) != training.codebook:
            findings.fault(
                f"{shard.path} comes from another training than {TRAINED_FILE}, so its codes mean nothing here"
            )
            return
        if (index.d, index.ntotal) != (dimension, shard.rows):
            findings.fault(
                f"{shard.path} holds {index.ntotal} vectors of {index.d} dimensions and should hold {shard.rows} of "
                f"{dimension}"
            )
            return
        if not _check_positions(index, shard, findings) or vectors is None:
            return
        stored = np.load(vectors.path, mmap_mode="r", allow_pickle=False)
        if not vectors_belong(index, stored, coding, training.index):
            findings.fault(f"{vectors.shard.path} holds other vectors than {shard.path}")


def _check_positions(index: Any, shard: Shard, findings: Findings) -> bool:
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is None:
        return True
    lists = ivf.invlists
    found = np.empty(shard.rows, np.int64)
    filled = 0
    for number in range(ivf.nlist):
        size = lists.list_size(number)
        if filled + size > shard.rows:
            break
        if size:
            found[filled : filled + size] = faiss.rev_swig_ptr(lists.get_ids(number), size)
        filled += size
    found.sort()
    if filled == shard.rows and np.array_equal(found, np.arange(shard.rows)):
        return True
    findings.fault(f"the lists of {shard.path} do not hold each of its {shard.rows} positions once")
    return False
