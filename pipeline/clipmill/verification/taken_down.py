"""Proof that nothing which was taken down is left in any version that is kept: no row, no picture, no reject that tells."""

import pyarrow as pa
import pyarrow.compute as pc

from clipmill import storage
from clipmill.core.manifests import IndexManifest
from clipmill.core.reporter import Reporter, Tally
from clipmill.core.schemas import IMAGE_SHA256
from clipmill.datasets.manifests import MANIFEST, read_manifest
from clipmill.datasets.shards import read_shards
from clipmill.storage import Location
from clipmill.verification.findings import Findings
from clipmill.verification.tables import open_parquet
from clipmill.versions.matching import kept_embeddings
from clipmill.versions.place import Place
from clipmill.versions.prune import leftovers
from clipmill.versions.rewrite import Leaving, groups_of
from clipmill.versions.takedown import Takedown, read_removed


def verify_taken_down(place: Place, reporter: Reporter) -> Findings | None:
    """Looks through the embeddings and the rows of the index of every version at an output, and through the words that were
    written for it; None where nothing was taken down there. Reads ids and hashes, a batch at a time."""
    removed = read_removed(place)
    if not len(removed):
        return None
    findings = Findings("takedown", place.output.uri)
    leaving = Leaving(frozenset(), removed)
    for name, dataset in kept_embeddings(place):
        if removed.contents and not dataset.manifest.has_hashes:
            findings.unchecked.append(f"contents of version {name}, which was made before clipmill kept them")
        groups = groups_of(dataset)
        tally = Tally(reporter, "verify", len(groups), "groups")
        for group in groups:
            if leaving.is_in(group):
                findings.fault(f"version {name}: the files embeddings/*/{group.name} hold what was taken down")
            tally.add(1)
        _check_index(place.version(name) / "index", name, removed, findings)
        findings.count("versions", 1)
    _check_words(place, removed, findings)
    findings.count("ids and contents taken down", len(removed))
    halves = leftovers(place)
    if halves:
        findings.notes.append(
            f"not looked into: {', '.join(halves)}, which no run has finished or no removal; `clipmill prune`"
        )
    return findings


def _check_index(index: Location, version: str, removed: Takedown, findings: Findings) -> None:
    if not removed.ids or not storage.is_file(index / MANIFEST):
        return
    ids = pa.array(sorted(removed.ids), pa.string())
    for file in read_shards(index, read_manifest(index, IndexManifest).shards_sha256):
        if file.part != "row_table":
            continue
        for batch in open_parquet(file.at(index)).iter_batches(columns=["id"]):
            if pc.any(pc.is_in(batch.column(0), value_set=ids)).as_py():
                findings.fault(f"version {version}: index/{file.path} holds what was taken down")
                break


def _check_words(place: Place, removed: Takedown, findings: Findings) -> None:
    """Texts, captioned rows and dropped texts. A captioned row that was taken down keeps its id and nothing else."""
    ids = pa.array(sorted(removed.ids), pa.string())
    digests = pa.array([bytes.fromhex(one) for one in sorted(removed.contents)], pa.binary(32))
    start = len(place.words.path) + 1
    for info in storage.list_files(place.words):
        name = info.path[start:]
        *_, part, file = name.split("/")
        if part not in ("texts", "captioned", "dropped") or not file.startswith("part-"):
            continue
        columns = ["id", *(["caption", IMAGE_SHA256] if part == "captioned" else [])]
        for batch in open_parquet(place.words / name).iter_batches(columns=columns):
            marked = pc.is_in(batch.column("id"), value_set=ids)
            if part == "captioned":
                seen = batch.column(IMAGE_SHA256)
                says = pc.or_(pc.is_valid(seen), pc.greater(pc.list_value_length(batch.column("caption")), 0))
                marked = pc.or_(pc.and_(marked, says), pc.is_in(seen, value_set=digests))
            if pc.any(marked).as_py():
                findings.fault(f"words/{name} holds what was taken down")
                break
