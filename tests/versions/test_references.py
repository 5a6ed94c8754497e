"""On S3 a version names files of older versions where they are, and every reader finds them there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clipmill.core.manifests import IndexManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import IndexSettings, OutputSettings
from clipmill.datasets.manifests import Embeddings, read_manifest
from clipmill.datasets.shards import read_shards
from clipmill.index.build import plan as plan_module
from clipmill.index.build.build import Build, make_build
from clipmill.index.search.open import open_index
from clipmill.source.inputs import find_inputs
from clipmill.storage import list_files, resolve, write_bytes
from clipmill.storage.s3 import client as s3_client
from clipmill.verification.embeddings import verify_embeddings
from clipmill.verification.index import verify_index
from clipmill.versions import grow as grow_module
from clipmill.versions.changes import changes_since
from clipmill.versions.compose import Composition, compose
from clipmill.versions.grow import grow, training_of
from clipmill.versions.takedown import Takedown
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


def test_on_s3_shards_that_stay_are_named_where_they_are(
    server: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice, so that the third version names files of the first and of the second."""
    for name, value in {**server.environment, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    s3_client.forget()
    place = f"s3://{BUCKET}/{tmp_path.name}/runs"
    local = write_whole_embeddings(tmp_path)
    for path in filter(Path.is_file, local.rglob("*")):
        write_bytes(resolve(f"{place}/first/embeddings/{path.relative_to(local)}"), path.read_bytes())
    build = build_of(f"{place}/first/embeddings", f"{place}/first/index")
    run_here(build)
    training = training_of(build, resolve(f"{place}/first/index"))
    for before, name, removed in (("first", "second", ["a-102"]), ("second", "third", ["a-102", "c-150"])):
        base = Embeddings.open(f"{place}/{before}/embeddings")
        changes = changes_since(base, find_inputs(str(tmp_path / "source")))
        settings = OutputSettings(output=f"{place}/{name}/embeddings")
        compose(Composition(settings, base, None, changes, Takedown(frozenset(removed)), identity(), {}))
        build = build_of(settings.output, f"{place}/{name}/index")
        run_here(grow(build, resolve(f"{place}/{before}/index"), training, same_vectors=True).build)
        for verify, part in ((verify_index, "index"), (verify_embeddings, "embeddings")):
            found = verify(f"{place}/{name}/{part}", quick=False, reporter=Silent())
            assert (found.faults, found.unchecked) == ([], [])
    index = resolve(f"{place}/third/index")
    shards = read_shards(index, read_manifest(index, IndexManifest).shards_sha256)
    whose = {file.path: file.version for file in shards if file.part == "index"}
    assert sorted(map(str, whose.values())) == ["None", "None", "first", "second"]
    assert read_manifest(index, IndexManifest).schema_version == 4
    there = {info.base_name for info in list_files(index)}
    assert {file.path for file in shards if file.version is None} <= there
    assert not {file.path for file in shards if file.version is not None and file.path in there} - {
        file.path for file in shards if file.version is None
    }
    rows = Embeddings.open(f"{place}/third/embeddings").table("images", ["row"]).column("row").to_pylist()
    assert np.concatenate(open_index(index.uri).sharded.rows).tolist() == rows
    s3_client.forget()
