"""The embeddings of a version: those of the version before without what is gone, and what was embedded for this one.

Files of which every row stays are not written again: on a disk they get another name, on S3 they are named where they
are. Only those that hold rows of dead source files, or ids that were taken down, are, and small ones that become one
(`clipmill.versions.compact`).
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core import environment
from clipmill.core.manifests import (
    CLIPS_VERSION,
    EMBEDDINGS_VERSION,
    FRAMES_VERSION,
    REFERENCES_VERSION,
    ClipCounts,
    Counts,
    EmbeddingsManifest,
    ModelIdentity,
    Run,
    Throughput,
)
from clipmill.core.schemas import FRAME, INPUTS, ORDINAL_SHIFT, ROWS_PER_SHARD, Reason
from clipmill.core.settings import OutputSettings
from clipmill.datasets.manifests import INPUTS_FILE, LISTING_FILE, Embeddings
from clipmill.datasets.shards import Shard, refer, write_shards
from clipmill.embedding.layout import CLIP_PARTS, PARTS
from clipmill.source.media import MEDIA
from clipmill.stage.kinds import EMBEDDINGS
from clipmill.stage.stage import Stage, Work
from clipmill.storage import Location
from clipmill.versions.changes import Changes
from clipmill.versions.compact import compacted
from clipmill.versions.rewrite import Group, Leaving, groups_of, rewrite
from clipmill.versions.takedown import Takedown

_THREADS = 16
REMOVED = "removed_sha256"
NEW = "new"
"""Keys of the configuration in a manifest: what was taken down, and what became of the rows that are new."""


@dataclass(frozen=True)
class Composition(Stage[EmbeddingsManifest]):
    """What a version's embeddings are made of. ``base`` and ``made`` are None where nothing is kept, or nothing is new;
    ``configuration`` is that of the manifest."""

    name = "compose"
    kind = EMBEDDINGS
    settings: OutputSettings
    base: Embeddings | None
    made: Embeddings | None
    changes: Changes
    removed: Takedown
    model: ModelIdentity
    configuration: dict[str, Any]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the dataset follows from."""
        sources = {
            "base": self.base.manifest_sha256 if self.base else None,
            "made": self.made.manifest_sha256 if self.made else None,
        }
        return {**sources, "removed": self.removed.sha256, "set": self.configuration}

    @property
    def has_hashes(self) -> bool:
        """Whether images have their sha256: all of them, or, where the version that this grows from has none, none."""
        first = self.base or self.made
        return first is not None and first.manifest.has_hashes

    @property
    def refers(self) -> bool:
        """Whether files that stay are named where they are and not given another name: on S3 that would copy them. What
        has no hashes keeps the form that it has, which knows no other versions."""
        return not self.output.is_local and self.has_hashes

    @property
    def leaving(self) -> Leaving:
        """What is not taken over of the files."""
        return Leaving(frozenset(self.changes.dead), self.removed, not self.has_hashes, self.changes.gone)

    def differences(self, found: EmbeddingsManifest) -> list[str]:
        """None: a version's folder is named after all that decides what is in it."""
        return []

    @property
    def drops_others(self) -> bool:
        """What another start left in the version's folder is of no use, and goes."""
        return True


def compose(composition: Composition) -> EmbeddingsManifest:
    """Makes and publishes the dataset; one that is there already is left as it is."""
    return composition.run(lambda work: _compose(composition, work)).manifest


def _compose(composition: Composition, work: Work) -> EmbeddingsManifest:
    started = datetime.now(timezone.utc)
    files = _files(composition, work.dataset, work.staging.token)
    lines = composition.changes.lines(_lines_of(composition.made), _captions_gone(composition))
    inputs = storage.write_table(work.dataset / INPUTS_FILE, pa.Table.from_pylist(lines, schema=INPUTS))
    counts = _counts(work.dataset, files, sum(line["rows"] for line in lines if not line["dead"]))
    new = composition.made.manifest if composition.made else None
    sample = new or (composition.base.manifest if composition.base else None)
    assert sample is not None  # a dataset is made of something
    encoded = Counter(composition.base.manifest.encoded_with if composition.base else {}) + Counter(
        new.encoded_with if new else {}
    )
    return EmbeddingsManifest(
        schema_version=_version(composition, counts, files),
        model=composition.model,
        dimension=composition.model.dimension,
        counts=counts,
        configuration={
            **composition.configuration,
            REMOVED: composition.removed.sha256,
            NEW: (new.counts if new else Counts()).model_dump(mode="json"),
        },
        encoded_with=dict(sorted(encoded.items())),
        truncated_captions=_truncated(composition),
        kept_columns=sample.kept_columns,
        runs=_runs(new, counts.rows, started),
        throughput=new.throughput if new else _NOTHING,
        software=environment.software(),
        hardware=new.hardware if new else environment.hardware(),
        inputs_sha256=inputs.sha256,
        shards_sha256=write_shards(work.dataset, files),
        listing_sha256=_write_listing(composition, work.dataset),
    )


def _version(composition: Composition, counts: Counts, files: Sequence[Shard]) -> int:
    if not composition.has_hashes:
        return EMBEDDINGS_VERSION - 1
    if any(file.version is not None for file in files):
        return REFERENCES_VERSION
    if any(one.kept_frames is not None for one in counts.clips.values()):
        return FRAMES_VERSION
    return CLIPS_VERSION if counts.clips else EMBEDDINGS_VERSION


def _write_listing(composition: Composition, dataset: Location) -> str | None:
    """The pictures of listed folders that the version has; None where no folder was ever listed."""
    before = composition.base.listing if composition.base else None
    made = composition.made.listing if composition.made else None
    parts = [
        *([composition.leaving.alive(before)] if before is not None else []),
        *([made] if made is not None else []),
    ]
    return storage.write_table(dataset / LISTING_FILE, pa.concat_tables(parts)).sha256 if parts else None


def _captions_gone(composition: Composition) -> Counter[int]:
    """Captions, rejected ones too, of the rows that are gone, by the ordinal of their source file."""
    gone, counts = composition.changes.gone, Counter[int]()
    if composition.base is None or not len(gone):
        return counts
    wanted = pa.array(gone)
    for part, kind in (("captions", None), ("rejected", "caption")):
        columns = ["row", *(["kind"] if kind else [])]
        for batch in composition.base.batches(part, columns) if composition.base.shards_of(part) else ():
            there = pc.is_in(batch.column("row"), value_set=wanted)
            if kind:
                there = pc.and_(there, pc.equal(batch.column("kind"), kind))
            counts.update((batch.column("row").filter(there).to_numpy() >> ORDINAL_SHIFT).tolist())
    return counts


_NOTHING = Throughput(
    wall_seconds=0.0, images_per_second=0.0, captions_per_second=0.0, images_per_cpu_second=0.0, stage_seconds={}
)


def _files(work: Composition, target: Location, token: str) -> list[Shard]:
    """The files of the new dataset in order of part and row, all of them in place."""
    groups = [*(groups_of(work.base) if work.base else ()), *(groups_of(work.made) if work.made else ())]
    ranges = compacted([group.size for group in groups], ROWS_PER_SHARD)
    with ThreadPoolExecutor(_THREADS) as pool:
        placed = list(
            pool.map(lambda one: _place(work, groups[one.start : one.stop], target, one.start, token), ranges)
        )
    files = []
    for part in PARTS:
        here = [file for group in placed for file in group if file.part == part]
        kept = [file for file in here if file.rows] or here[:1]  # one that is empty tells the schema
        storage.remove_files(target, [file.path for file in here if file not in kept and file.version is None])
        files += kept
    return files


def _place(work: Composition, groups: Sequence[Group], target: Location, number: int, token: str) -> Sequence[Shard]:
    if len(groups) > 1 or _changes(work, groups[0]):
        return rewrite(groups, target, f"part-{number:05d}-{token}.parquet", work.leaving)
    dataset, files = groups[0].dataset, groups[0].files
    if dataset is work.base and work.refers:
        return [refer(file, dataset.location) for file in files]
    for file in files:
        storage.reference(file.at(dataset.location), target / file.path)
    return [replace(file, version=None) for file in files]


def _changes(work: Composition, group: Group) -> bool:
    """Whether rows of these files could be gone, or were taken down, or their columns are others."""
    changes = work.changes
    if group.dataset is work.base and (group.may_hold(changes.dead) or group.may_hold_any(changes.gone)):
        return True
    if group.dataset.manifest.has_hashes != work.has_hashes:
        return True
    looked_through = group.dataset.manifest.configuration.get(REMOVED) == work.removed.sha256
    return bool(len(work.removed)) and not looked_through and work.leaving.is_in(group)


def _lines_of(made: Embeddings | None) -> list[dict[str, Any]]:
    return storage.read_table(made.location / INPUTS_FILE).to_pylist() if made else []


def _counts(dataset: Location, files: Sequence[Shard], rows: int) -> Counts:
    """Images and captions from the list, rejects from their files, which are small."""
    totals = Counter({part: sum(file.rows for file in files if file.part == part) for part in PARTS})
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for file in files:
        if file.part == "rejected" and file.rows:
            table = storage.read_table(file.at(dataset))
            kinds.update(table.column("kind").to_pylist())
            reasons.update(table.column("reason").to_pylist())
    frames = _frames_of(dataset, files)
    vectors = totals["videos"] if frames is not None else None
    totals["videos"] = totals["videos"] if frames is None else frames
    return Counts(
        rows=rows,
        images=totals["images"],
        captions=totals["captions"],
        rejected_images=kinds["image"],
        rejected_captions=kinds["caption"],
        without_image_column=rows - totals["images"] - kinds["image"],
        rejected_by_reason=dict(sorted(reasons.items())),
        clips={
            medium.part: ClipCounts(
                embedded=totals[medium.part],
                rejected=kinds[medium.name],
                without_column=rows - totals[medium.part] - kinds[medium.name],
                kept_frames=vectors if medium.part == "videos" else None,
            )
            for medium in MEDIA.values()
            if medium.part in CLIP_PARTS and any(file.part == medium.part for file in files)
        },
    )


def _truncated(composition: Composition) -> int | None:
    """Captions that were cut where the model stops reading; None where there are none, or it is not known which are left."""
    if composition.changes.dead or len(composition.changes.gone) or len(composition.removed):
        return None
    made = [one.manifest.truncated_captions or 0 for one in (composition.base, composition.made) if one is not None]
    return sum(made) or None


def _frames_of(dataset: Location, files: Sequence[Shard]) -> int | None:
    """The videos of which pictures were kept; None where each has one vector."""
    videos = 0
    for file in files:
        if file.part != "videos":
            continue
        place = file.at(dataset)
        with place.filesystem.open_input_file(place.path) as stream:
            parquet = pq.ParquetFile(stream)
            if FRAME not in parquet.schema_arrow.names:
                return None
            videos += len(parquet.read(["row"]).column("row").unique())
    return videos if any(file.part == "videos" for file in files) else None


def _runs(new: EmbeddingsManifest | None, rows: int, started: datetime) -> list[Run]:
    """The starts towards this version; rows of the version before count as reused by each."""
    if new is None:
        finished = datetime.now(timezone.utc)
        limited = "nothing: all rows were done before"
        return [Run(started=started, finished=finished, rows_encoded=0, rows_reused=rows, limited_by=limited)]
    kept = rows - new.counts.rows
    return [run.model_copy(update={"rows_reused": run.rows_reused + kept}) for run in new.runs]


def rejects_of(counts: Counts) -> int:
    """Images and captions that could not be embedded; those taken down are none of them."""
    return sum(count for reason, count in counts.rejected_by_reason.items() if reason != Reason.REMOVED.value)
