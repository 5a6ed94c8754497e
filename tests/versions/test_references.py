"""On S3 a version names files of older versions where they are, and every reader finds them there."""

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from clipmill.core.manifests import EmbeddingsManifest, IndexManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import IndexSettings, OutputSettings
from clipmill.datasets.manifests import Embeddings, read_manifest
from clipmill.datasets.shards import Shard, read_shards
from clipmill.index.build import plan as plan_module
from clipmill.index.build.build import Build, make_build
from clipmill.index.search.open import open_index
from clipmill.source.inputs import find_inputs
from clipmill.storage import Location, list_files, read_bytes, remove_files, resolve, write_bytes
from clipmill.storage.s3 import client as s3_client
from clipmill.verification.embeddings import verify_embeddings
from clipmill.verification.index import verify_index
from clipmill.verification.taken_down import verify_taken_down
from clipmill.versions import grow as grow_module
from clipmill.versions.changes import changes_since
from clipmill.versions.compose import Composition, compose
from clipmill.versions.grow import grow, training_of
from clipmill.versions.place import Place
from clipmill.versions.pointer import read_pointer, switch
from clipmill.versions.prune import plan_pruning, prune
from clipmill.versions.takedown import Takedown, add_removed
from clipmill.versions.version import Training, Version, manifests_of, write_version
from faulty_s3 import BUCKET, FaultyS3
from indexing import run_here
from wholesome import identity, write_whole_embeddings


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "SHARD_ROWS", 100)
    monkeypatch.setattr(grow_module, "SHARD_ROWS", 100)


def build_of(embeddings: str, output: str) -> Build:
    values = {"embeddings": embeddings, "output": output, "factory": "IVF4,PQ4x4fsr", "tuning_queries": 20}
    return make_build(IndexSettings.model_validate(values))


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with FaultyS3() as running:
        yield running


@pytest.fixture
def runs(server: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where versions lie on S3; the first of them is there."""
    for name, value in {**server.environment, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    s3_client.forget()
    place = f"s3://{BUCKET}/{tmp_path.name}/runs"
    local = write_whole_embeddings(tmp_path)
    for path in filter(Path.is_file, local.rglob("*")):
        write_bytes(resolve(f"{place}/first/embeddings/{path.relative_to(local)}"), path.read_bytes())
    run_here(build_of(f"{place}/first/embeddings", f"{place}/first/index"))
    yield place
    s3_client.forget()


def next_version(runs: str, before: str, name: str, removed: list[str], source: Path, training: Training) -> None:
    """A version that grows from another one of the place, without some ids."""
    base = Embeddings.open(f"{runs}/{before}/embeddings")
    settings = OutputSettings(output=f"{runs}/{name}/embeddings")
    changes = changes_since(base, find_inputs(str(source)))
    compose(Composition(settings, base, None, changes, Takedown(frozenset(removed)), identity(), {}))
    build = build_of(settings.output, f"{runs}/{name}/index")
    run_here(grow(build, resolve(f"{runs}/{before}/index"), training, same_vectors=True).build)


def training_at(runs: str) -> Training:
    return training_of(build_of(f"{runs}/first/embeddings", f"{runs}/first/index"), resolve(f"{runs}/first/index"))


def faults(version: str) -> list[str]:
    found = [verify_index(f"{version}/index", quick=False, reporter=Silent())]
    found += [verify_embeddings(f"{version}/embeddings", quick=quick, reporter=Silent()) for quick in (True, False)]
    return [fault for one in found for fault in one.faults]


def shards_at(index: str) -> list[Shard]:
    place = resolve(index)
    return read_shards(place, read_manifest(place, IndexManifest).shards_sha256)


def test_on_s3_files_that_stay_are_named_where_they_are(runs: str, tmp_path: Path) -> None:
    """Twice, so that the third version names files of the first and of the second."""
    training = training_at(runs)
    next_version(runs, "first", "second", ["a-102"], tmp_path / "source", training)
    next_version(runs, "second", "third", ["a-102", "c-150"], tmp_path / "source", training)
    assert faults(f"{runs}/second") == faults(f"{runs}/third") == []
    shards = shards_at(f"{runs}/third/index")
    versions = [str(file.version) for file in shards if file.part == "index"]
    assert sorted(versions) == ["None", "None", "first", "second"]
    assert read_manifest(resolve(f"{runs}/third/index"), IndexManifest).schema_version == 4
    there = {info.base_name for info in list_files(resolve(f"{runs}/third/index"))}
    own = {file.path for file in shards if file.version is None}
    assert there == {*own, "trained.faiss", "shards.parquet", "manifest.json"}
    rows = Embeddings.open(f"{runs}/third/embeddings").table("images", ["row"]).column("row").to_pylist()
    assert np.concatenate(open_index(f"{runs}/third/index").sharded.rows).tolist() == rows


def test_a_place_that_was_copied_to_a_disk_is_whole_and_grows_there(runs: str, tmp_path: Path) -> None:
    training = training_at(runs)
    next_version(runs, "first", "second", ["a-102"], tmp_path / "source", training)
    root, here = resolve(runs), tmp_path / "copied/runs"
    for info in list_files(root):
        target = here / info.path[len(root.path) + 1 :]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read_bytes(Location(root.filesystem, info.path, info.path)))
    assert faults(f"{here}/second") == []
    next_version(str(here), "second", "third", ["a-102", "c-150"], tmp_path / "source", training)
    assert faults(f"{here}/third") == []
    assert {file.version for file in shards_at(f"{here}/third/index")} == {None}


class Held:
    """A lease that nobody takes."""

    def check(self) -> None:
        pass


def test_what_a_removal_that_was_broken_off_left_is_told_and_removed(runs: str, tmp_path: Path) -> None:
    """Of a version whose files another one names, an id that was taken down among what nobody names."""
    place = Place.of(runs.removesuffix("/runs"))
    publish(place, "first", None, removed=0)
    add_removed(place, Takedown(frozenset({"a-102"})))
    next_version(runs, "first", "second", ["a-102"], tmp_path / "source", training_at(runs))
    publish(place, "second", "first", removed=1)
    assert (plan_pruning(place, 1).halves, [name for name, _ in plan_pruning(place, 1).removed]) == ([], ["first"])
    remove_files(place.version("first"), ["version.json", "embeddings/manifest.json"])
    assert "not looked into: first" in " ".join(verify_taken_down(place, Silent()).notes)
    pruning = plan_pruning(place, 1)
    assert (pruning.halves, pruning.removed) == (["first"], [])
    prune(place, pruning, Held())  # type: ignore[arg-type]
    named = {
        f"{part}/{file.path}"
        for part, kind in (("embeddings", EmbeddingsManifest), ("index", IndexManifest))
        for file in read_shards(
            resolve(f"{runs}/second/{part}"), read_manifest(resolve(f"{runs}/second/{part}"), kind).shards_sha256
        )
        if file.version == "first"
    }
    folder = place.version("first")
    assert {info.path[len(folder.path) + 1 :] for info in list_files(folder)} == named
    assert plan_pruning(place, 1).halves == []
    assert not verify_taken_down(place, Silent()).notes
    assert faults(f"{runs}/second") == []


def publish(place: Place, name: str, base: str | None, *, removed: int) -> None:
    """Makes a version of what is there, and lets readers see it."""
    version = Version(
        name=name,
        made=datetime.now(timezone.utc),
        base=base,
        key="k",
        manifests=manifests_of(place.version(name)),
        counts=Embeddings.open((place.version(name) / "embeddings").uri).manifest.counts,
        rows_encoded=0,
        rows_reused=0,
        removed=removed,
        ordinals=3,
        training=None,
        notes=[],
        bars=[],
    )
    write_version(place, version)
    switch(place, version, read_pointer(place))
