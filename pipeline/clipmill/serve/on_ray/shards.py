"""Deployments that hold the shards of an index too large for one process, and the index that asks them.

Each holds one run of the shards of whichever version is asked for, and the version before it while it is still asked for.
What they find is merged exactly, so the results are those of one process.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from clipmill import storage
from clipmill.core.manifests import IndexManifest
from clipmill.core.startup import prepare_process
from clipmill.index.build.part import IndexPart
from clipmill.index.search.exact import TopK, best_of_all, empty_top_k
from clipmill.index.search.open import open_index, open_part, open_sidecars
from clipmill.index.search.search import Effort, Index, ShardedIndex
from clipmill.index.search.selection import Selection
from clipmill.serve.follow.open import Open
from clipmill.serve.on_ray.encoders import answer_of

_OPEN_VERSIONS = 2


@serve.deployment(max_ongoing_requests=32)
class Shards:
    """Run ``number`` of ``runs`` of the shards of an index."""

    def __init__(self, number: int, runs: int, cache: str, resident: bool = False) -> None:
        prepare_process()
        self._resident = resident
        self._number, self._runs, self._cache = number, runs, Path(cache)
        self._parts: OrderedDict[str, tuple[range, IndexPart]] = OrderedDict()

    def selects(self, uri: str, manifest: str) -> bool:
        """Whether these shards can leave rows out while they are searched. Opens them."""
        _, part = self._part(uri, manifest)
        return part is None or part.sharded.selects

    def found(
        self,
        uri: str,
        manifest: str,
        queries: NDArray[np.float32],
        k: int,
        effort: Effort,
        bits: Sequence[NDArray[np.uint8]] | None,
    ) -> TopK:
        """What these shards find; ``bits`` select rows of all shards of the index."""
        numbers, part = self._part(uri, manifest)
        if part is None:
            return empty_top_k(len(queries), k)
        selection = None
        if bits is not None:
            selection = Selection(
                [np.array(one) for one in bits[numbers.start : numbers.stop]], part.sharded.vectors.starts
            )
        return part.found(queries, k, effort, selection)

    def _part(self, uri: str, manifest: str) -> tuple[range, IndexPart | None]:
        parsed = IndexManifest.model_validate_json(manifest)
        numbers = run_of(self._number, self._runs, parsed.shards)
        if not numbers:
            return numbers, None
        key = f"{uri} {parsed.shards_sha256}"
        if key not in self._parts:
            self._parts[key] = numbers, open_part(uri, parsed, numbers, self._cache, resident=self._resident)
            while len(self._parts) > _OPEN_VERSIONS:
                self._parts.popitem(last=False)
        self._parts.move_to_end(key)
        return self._parts[key]


def run_of(number: int, runs: int, shards: int) -> range:
    """The shards that run ``number`` holds: consecutive ones, as many as the others, or one more."""
    return range(number * shards // runs, (number + 1) * shards // runs)


@dataclass(frozen=True)
class RemoteShards(ShardedIndex):
    """An index whose shards are searched elsewhere; vectors, rows and columns are read here, from disk."""

    uri: str
    manifest: str
    handles: Sequence[Any]
    can_select: bool

    @property
    def selects(self) -> bool:
        return self.can_select

    def found(self, queries: NDArray[np.float32], k: int, effort: Effort, selection: Selection | None) -> TopK:
        """As `ShardedIndex.found`, from all runs of shards at once."""
        if effort.scored:
            return ShardedIndex.found(self, queries, k, effort, selection)
        bits = None if selection is None else list(selection.bits)
        asked = [handle.found.remote(self.uri, self.manifest, queries, k, effort, bits) for handle in self.handles]
        return best_of_all([answer_of(one, "searching a shard") for one in asked], k)


def remote_open(handles: Sequence[Any], *, resident: bool) -> Open:
    """Opens an index whose shards these deployments hold; whole in this process where there are none, which then has the stored
    vectors in memory where ``resident``."""

    def opened(uri: str, cache: Path) -> Index:
        manifest, vectors, rows, table = open_sidecars(uri, cache)
        told = manifest.model_dump_json()
        asked = [handle.selects.remote(uri, told) for handle in handles]
        selects = all(answer_of(one, "opening a shard") for one in asked)
        return Index(manifest, RemoteShards(None, (), vectors, rows, uri, told, handles, selects), table)

    return opened if handles else partial(open_index, resident=resident)


def runs_for(uri: str, memory: int, *, resident: bool) -> int:
    """Into how many runs an index is divided that takes more ``memory`` than one process is to hold, with its stored vectors
    where they are ``resident``; 0: into none."""
    from clipmill.datasets.manifests import read_manifest

    manifest = read_manifest(storage.resolve(uri), IndexManifest)
    held = manifest.memory["total"] + (manifest.bytes_of_stored if resident else 0)
    needed = -(-held // memory)
    return 0 if needed <= 1 else min(needed, manifest.shards)
