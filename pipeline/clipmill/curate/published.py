"""What is published of near-duplicates: their pairs, the groups these make, and a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core import environment
from clipmill.core.manifests import Clusters, DuplicatesManifest, PairsRecall, Run
from clipmill.core.schemas import groups_schema, pairs_schema
from clipmill.curate.dedup import Dedup
from clipmill.curate.groups import complete_groups_of, groups_of, kept_of
from clipmill.curate.near import Found, Pairs
from clipmill.curate.widths import EXACT_MEMBERS, Groups
from clipmill.curate.worth import describe
from clipmill.datasets.shards import Shard, describe_shard, write_shards
from clipmill.stage.staging import Started
from clipmill.storage import Location

PAIRS_FILE, GROUPS_FILE = "pairs.parquet", "groups.parquet"


@dataclass(frozen=True)
class Measured:
    """What is told of pairs that were found within clusters; nothing of those of exact comparison."""

    recall: PairsRecall | None = None
    clusters: Clusters | None = None


def group_pairs(dedup: Dedup, found: Found) -> Groups:
    """The groups that pairs make by the linkage asked for."""
    if dedup.settings.linkage == "complete":
        return Groups(*complete_groups_of(found.pairs, found.alike))
    return Groups(*groups_of(found.pairs.first, found.pairs.second))


def finish_duplicates(
    dedup: Dedup,
    start: Started,
    pairs: Pairs,
    groups: Groups,
    least: NDArray[np.float32],
    measured: Measured,
    hardware: dict[str, Any],
) -> DuplicatesManifest:
    """Writes all pairs, and groups with the least cosine of each (g,), and returns their manifest."""
    ends = np.unique(np.concatenate([pairs.first, pairs.second]))
    rows, worth = describe(dedup.gallery, ends, dedup.settings.keep)
    inside = np.searchsorted(ends, groups.members)
    kept = kept_of(groups.numbers, worth[inside])
    written = [
        _write(dedup, PAIRS_FILE, _pair_table(pairs, ends, rows)),
        _write(dedup, GROUPS_FILE, _group_table(groups, rows.take(inside), kept, least)),
    ]
    sizes = groups.sizes
    return DuplicatesManifest(
        n=dedup.gallery.n,
        gallery=dedup.gallery.part,
        threshold=dedup.settings.threshold,
        pairs=len(pairs),
        groups=int(kept.sum()),
        rows_in_groups=len(groups.members),
        rows_dropped=int((~kept).sum()),
        largest_group=int(sizes.max(initial=0)),
        method=dedup.choice.method,
        why=dedup.choice.why,
        recall=measured.recall,
        clusters=measured.clusters,
        linkage=dedup.settings.linkage,
        least_cosine=float(least.min()) if len(least) else None,
        bounded_groups=int((sizes > EXACT_MEMBERS).sum()),
        configuration=dedup.settings.content(),
        embeddings=dedup.gallery.dataset.location.uri,
        embeddings_manifest_sha256=dedup.gallery.dataset.manifest_sha256,
        shards_sha256=write_shards(dedup.staging.dataset, written),
        runs=[
            *start.earlier,
            Run(
                started=start.at,
                finished=datetime.now(timezone.utc),
                rows_encoded=dedup.gallery.n - start.rows_reused,
                rows_reused=start.rows_reused,
            ),
        ],
        software=environment.software(),
        hardware=hardware,
    )


def _write(dedup: Dedup, name: str, table: pa.Table) -> Shard:
    dataset: Location = dedup.staging.dataset
    schema = (pairs_schema if name == PAIRS_FILE else groups_schema)(captions=dedup.gallery.part == "captions")
    written = storage.write_table(dataset / name, table.select(schema.names).cast(schema), compression="zstd")
    return describe_shard(dataset, name, name.removesuffix(".parquet"), table.num_rows, None, None, written)


def _pair_table(pairs: Pairs, ends: NDArray[np.int64], rows: pa.Table) -> pa.Table:
    """``rows`` describes the positions that are in any pair, its ``ends``."""
    sides = {side: np.searchsorted(ends, at) for side, at in (("a", pairs.first), ("b", pairs.second))}
    columns = {f"{name}_{side}": rows.column(name).take(at) for name in _identity(rows) for side, at in sides.items()}
    return pa.table({**columns, "cosine": pairs.cosine})


def _group_table(groups: Groups, rows: pa.Table, kept: NDArray[np.bool_], least: NDArray[np.float32]) -> pa.Table:
    """``rows`` describes the members of the groups."""
    order = np.lexsort((groups.members, groups.numbers))
    told = {"group": groups.numbers, "kept": kept, "least_cosine": least[groups.numbers]}
    columns = {name: rows.column(name) for name in _identity(rows)}
    return pa.table({**columns, **{name: pa.array(values) for name, values in told.items()}}).take(order)


def _identity(rows: pa.Table) -> list[str]:
    return [name for name in ("row", "id", "caption_index") if name in rows.column_names]
