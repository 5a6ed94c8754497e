"""Finding near-duplicates, before and after the work: what is to be compared, and what is published of it."""

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core import environment
from clipmill.core.errors import UserError
from clipmill.core.manifests import DuplicatesManifest, Run
from clipmill.core.schemas import groups_schema, pairs_schema
from clipmill.core.settings import DedupSettings
from clipmill.curate.groups import groups_of, kept_of
from clipmill.curate.near import Pairs
from clipmill.datasets.manifests import Shard, describe_shard, write_shards
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.layout import ShardRange, places
from clipmill.stage.derived import differences_of_derived
from clipmill.stage.kinds import DUPLICATES
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Stage
from clipmill.stage.staging import Started
from clipmill.storage import Location

PAIRS_FILE, GROUPS_FILE = "pairs.parquet", "groups.parquet"
STRIP_ROWS = 32_768
"""Vectors compared at a time: two such runs in float32 fit in a quarter of a gigabyte at 512 dimensions."""
_READ_ROWS = 65_536
_RULES = ("first", "largest", "clip-score")


@dataclass(frozen=True)
class Dedup(Stage[DuplicatesManifest]):
    """A search for near-duplicates, fixed before it starts."""

    name = "dedup"
    kind = DUPLICATES
    settings: DedupSettings
    gallery: Gallery

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for pairs that one start found to be of use to another."""
        return {
            "job": "dedup",
            "embeddings": self.gallery.dataset.manifest_sha256,
            "configuration": self.settings.content(),
            "strips": len(self.strips),
        }

    def differences(self, found: DuplicatesManifest) -> list[str]:
        """How near-duplicates at the output differ from what this finds, in words."""
        return differences_of_derived(found, self.settings.content(), self.gallery.dataset.manifest_sha256)

    @property
    def outline(self) -> Outline:
        """A piece per strip."""
        step = Step(doing="comparing strips of vectors", total=len(self.strips), files={"strips/*.npz": 1})
        return Outline(stage=self.name, unit="strips", steps=(step,))

    @cached_property
    def strips(self) -> list[ShardRange]:
        """Runs of positions, each of which is compared with itself and with all after it."""
        return places(self.gallery.n, -(-self.gallery.n // STRIP_ROWS))

    @property
    def rotation(self) -> Location:
        return self.staging.folder / "rotation.npz"

    def strip(self, place: ShardRange) -> Location:
        """Where the pairs lie whose first row is in this strip."""
        return self.staging.folder / "strips" / f"{place.number:05d}.npz"


def make_dedup(settings: DedupSettings) -> Dedup:
    """Opens the embeddings. Raises UserError for a rule by which none of their rows could be chosen."""
    gallery = Gallery.open(settings.embeddings, settings.gallery)
    _worth_columns(gallery, settings.keep)
    return Dedup(settings, gallery)


def finish_duplicates(dedup: Dedup, start: Started, pairs: Pairs, hardware: dict[str, Any]) -> DuplicatesManifest:
    """Writes pairs and groups of all near-duplicates, and returns their manifest."""
    captions = dedup.gallery.part == "captions"
    members, groups = groups_of(pairs.first, pairs.second)
    rows, worth = _describe(dedup.gallery, members, dedup.settings.keep)
    kept = kept_of(groups, worth)
    order = np.lexsort((members, groups))
    columns = ["row", "id", *(["caption_index"] if captions else [])]
    table = rows.select(columns).append_column("group", pa.array(groups)).append_column("kept", pa.array(kept))
    written = [
        _write(dedup.staging.dataset, PAIRS_FILE, _pair_table(pairs, members, rows, captions=captions)),
        _write(dedup.staging.dataset, GROUPS_FILE, table.take(order).select(groups_schema(captions=captions).names)),
    ]
    return DuplicatesManifest(
        n=dedup.gallery.n,
        gallery=dedup.gallery.part,
        threshold=dedup.settings.threshold,
        pairs=len(pairs),
        groups=int(kept.sum()),
        rows_in_groups=len(members),
        rows_dropped=int((~kept).sum()),
        largest_group=int(np.bincount(groups).max()) if len(groups) else 0,
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


def _write(dataset: Location, name: str, table: pa.Table) -> Shard:
    captions = "caption_index" in table.column_names or "caption_index_a" in table.column_names
    schema = (pairs_schema if name == PAIRS_FILE else groups_schema)(captions=captions)
    written = storage.write_table(dataset / name, table.cast(schema), compression="zstd")
    return describe_shard(dataset, name, name.removesuffix(".parquet"), table.num_rows, None, None, written)


def _pair_table(pairs: Pairs, members: NDArray[np.int64], rows: pa.Table, *, captions: bool) -> pa.Table:
    sides = {side: np.searchsorted(members, at) for side, at in (("a", pairs.first), ("b", pairs.second))}
    names = ["row", "id", *(["caption_index"] if captions else [])]
    columns = {f"{name}_{side}": rows.column(name).take(at) for name in names for side, at in sides.items()}
    return pa.table({**columns, "cosine": pairs.cosine})


def _worth_columns(gallery: Gallery, keep: str) -> list[str]:
    """The columns by which one row of a group is chosen. Raises UserError for a rule that this gallery does not allow."""
    if keep == "first":
        return []
    if keep == "largest" and gallery.part == "images":
        return ["width", "height"]
    if keep == "clip-score" and gallery.dataset.count("captions"):
        return ["clip_score"] if gallery.part == "captions" else []
    if keep not in _RULES and keep in gallery.kept_columns:
        kind = gallery.open_file(0).schema_arrow.field(keep).type
        if (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_temporal(kind)
        ):
            return [keep]
        raise UserError(
            f"--keep {keep}: the column is {kind}, and of such values none is the greatest; name a number or time"
        )
    there = ", ".join(gallery.kept_columns) or "none"
    raise UserError(
        f"--keep {keep}: {gallery.dataset.location} has no such column among its {gallery.part} (kept columns: {there}); "
        f"give one, or {', '.join(_RULES)} where images or captions have that"
    )


def _describe(gallery: Gallery, members: NDArray[np.int64], keep: str) -> tuple[pa.Table, NDArray[np.float64]]:
    """The identity of positions, and what each is worth by the rule; one pass over those columns."""
    identity = ["row", "id", *(["caption_index"] if gallery.part == "captions" else [])]
    worth_columns = _worth_columns(gallery, keep)
    found: list[pa.Table] = []
    position = 0
    columns = list(dict.fromkeys([*identity, *worth_columns]))
    for batch in gallery.batches(0, gallery.n, columns, _READ_ROWS):
        inside = members[np.searchsorted(members, position) : np.searchsorted(members, position + batch.num_rows)]
        found.append(pa.Table.from_batches([batch]).take(inside - position))
        position += batch.num_rows
    rows = pa.concat_tables(found)
    if keep == "clip-score" and gallery.part != "captions":
        return rows, _best_clip_scores(gallery, rows.column("row").to_numpy())
    worth = np.zeros(len(members)) if keep == "first" else np.ones(len(members))
    for name in worth_columns:
        column = rows.column(name)
        if pa.types.is_temporal(column.type):
            column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
        worth *= pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy()
    return rows, worth


def _best_clip_scores(gallery: Gallery, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each image row (in order) the greatest clip score of its captions; NaN where it has none."""
    best = np.full(len(rows), -np.inf)
    for batch in gallery.dataset.batches("captions", ["row", "clip_score"]):
        at = np.minimum(np.searchsorted(rows, batch.column("row").to_numpy()), len(rows) - 1)
        scores = pc.fill_null(batch.column("clip_score"), float("-inf")).to_numpy(zero_copy_only=False)
        ours = rows[at] == batch.column("row").to_numpy()
        np.maximum.at(best, at[ours], scores[ours])
    return np.where(np.isinf(best), np.nan, best)
