"""A version is opened and tried before anybody is answered from it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.datasets.manifests import MANIFEST
from clipmill.index.search.search import Index
from clipmill.serve.answers.beside import Beside
from clipmill.serve.answers.opened import Opened
from clipmill.serve.follow.target import Target

_ROUNDING = 2e-2
"""Stored vectors are of unit length to half precision."""


Open = Callable[[str, Path], Index]
"""How an index is opened: whole in this process, or with its shards held elsewhere."""


def open_target(name: str, target: Target, cache: Path, open_index: Open) -> Opened:
    """The index of a target, under a name. Raises UserError where there is none, RunFailed where it is not whole or does not
    find its own vectors."""
    index = open_index(target.uri, cache)
    sha256 = storage.sha256(storage.resolve(target.uri) / MANIFEST)
    opened = Opened(name, target.uri, target.version, sha256, index, Beside(index.manifest))
    _try(opened)
    return opened


def _try(opened: Opened) -> None:
    """One search for a stored vector, whose best result must be as near as the vector is to itself; where none is stored, for
    any vector."""
    index = opened.index
    if not index.sharded.vectors.are_there:
        opened.rows(index.search(np.eye(1, index.dimension, dtype=np.float32), 1)[1][0])
        return
    own = index.vectors_at(np.array([index.n // 2]))
    scores, positions = index.search_like(index.n // 2, 1)
    if abs(float(scores[0, 0]) - float((own @ own.T)[0, 0])) > _ROUNDING or not opened.rows(positions[0]):
        raise RunFailed(f"{opened.uri}: the index does not find its own vectors; build it again with `clipmill index`")
