"""A run that is killed while it publishes on S3 is finished by the next, and what it left is known and goes."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioned import pairs, write_captioned
from clipmill import storage
from clipmill.core.errors import OutputDiffers, StorageRefused, UserError
from clipmill.core.manifests import EmbeddingsManifest, IndexManifest, SourceManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import EvaluateSettings, ImportVectorsSettings, IndexSettings, SampleSettings
from clipmill.datasets.manifests import read_manifest
from clipmill.datasets.shards import SHARDS_FILE, read_shards
from clipmill.index.build.build import make_build
from clipmill.report.evaluation import evaluate, make_evaluation
from clipmill.report.write import read_report
from clipmill.scenes import dataset as scenes_module
from clipmill.scenes.dataset import write_scenes
from clipmill.source.importers.vectors import import_vectors
from clipmill.stage.kinds import Kind
from clipmill.storage import Location
from clipmill.storage.s3 import client as s3_client
from faulty_s3 import BUCKET, FaultyS3
from indexing import make_here
from reported import load_encoder

IMAGES, CAPTIONS, ROWS = pairs(12, 2)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with FaultyS3() as running:
        yield running


@pytest.fixture
def store(server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    s3_client.forget()
    yield server
    server.plan = None
    s3_client.forget()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An embeddings dataset, and vectors in files."""
    folder = tmp_path_factory.mktemp("sources")
    np.save(folder / "images.npy", IMAGES)
    np.save(folder / "other.npy", IMAGES[:5])
    dataset = write_captioned(folder / "dataset", IMAGES, CAPTIONS, ROWS)
    return {"dataset": dataset, "images": str(folder / "images.npy"), "other": str(folder / "other.npy")}


@dataclass
class Death:
    """The store refuses everything from the so-manieth write on, counted from when something begins to be published."""

    at: int
    writes: int = -1
    happened: bool = field(default=False)

    def __call__(self, number: int, method: str, path: str) -> str | None:
        if method == "PUT" and path.endswith("/publishing.json"):
            self.writes = 0
        if self.writes >= 0 and method in ("PUT", "POST", "DELETE"):
            self.happened = self.happened or self.writes == self.at
            self.writes += 1
        return "403" if self.happened else None


def embeddings(sources: dict[str, str], output: str, kind: int, *, overwrite: bool) -> bool:
    images = sources["images" if kind else "other"]
    settings = ImportVectorsSettings(images=images, output=output, overwrite=overwrite)
    return import_vectors(settings, Silent()).already


def index(sources: dict[str, str], output: str, kind: int, *, overwrite: bool) -> bool:
    values = {"factory": "Flat", "shards": 2, "tuning_queries": 5 + kind, "overwrite": overwrite}
    return make_here(make_build(IndexSettings(embeddings=sources["dataset"], output=output, **values))).already


def report(sources: dict[str, str], output: str, kind: int, *, overwrite: bool) -> bool:
    values = {"templates": "plain", "bootstrap_samples": 20, "seed": kind, "overwrite": overwrite}
    settings = EvaluateSettings(embeddings=sources["dataset"], output=output, **values)
    return evaluate(make_evaluation(settings), load_encoder, Path("/dev/null"), Silent()).already


def scenes(sources: dict[str, str], output: str, kind: int, *, overwrite: bool) -> bool:
    settings = SampleSettings(output=output, rows=5 - kind, image_size=32, overwrite=overwrite)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes_module, "ROWS_PER_FILE", 2)
        return write_scenes(settings, Silent()).already


def assert_whole(output: Location, make: Callable[..., bool], kind: int) -> None:
    """The output is the dataset of this kind, with nothing else in it or beside it."""
    names = [info.path[len(output.path) + 1 :] for info in storage.list_files(output)]
    beside = [info.path for info in storage.list_files(output.sibling("")) if f"/{output.name}/" not in info.path]
    assert beside == []
    if make is report:
        assert names == ["report.csv", "report.html", "report.json", "report.md", "report.queries.parquet"]
        assert read_report(output).settings["seed"] == kind
        return
    if make is scenes:
        listed = read_manifest(output, SourceManifest)
        assert listed.rows == 5 - kind
        assert names == ["manifest.json", *(file.path for file in listed.files)]
        assert [storage.sha256(output / file.path) for file in listed.files] == [file.sha256 for file in listed.files]
        return
    if make is embeddings:
        found: Any = read_manifest(output, EmbeddingsManifest)
        assert found.counts.images == (len(IMAGES) if kind else 5)
    else:
        found = read_manifest(output, IndexManifest)
        assert found.configuration["tuning_queries"] == 5 + kind
    shards = read_shards(output, found.shards_sha256)
    for shard in shards:
        assert storage.sha256(output / shard.path) == shard.sha256
    tables = {"manifest.json", SHARDS_FILE, "inputs.parquet" if make is embeddings else "trained.faiss"}
    assert set(names) == {*tables, *(shard.path for shard in shards)}


@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("make", [embeddings, index, report, scenes])
def test_it_may_die_at_any_write_while_it_publishes(
    make: Callable[..., bool], replacing: bool, store: FaultyS3, sources: dict[str, str], tmp_path: Path
) -> None:
    for instant in itertools.count(0, 3 if make is index else 1):
        output = f"s3://{BUCKET}/{tmp_path.name}/{instant}/out"
        if replacing:
            make(sources, output, 0, overwrite=False)
        death = Death(instant)
        store.plan = death
        with suppress(StorageRefused):
            make(sources, output, 1, overwrite=replacing)
        store.plan = None
        if not death.happened:
            break
        last = storage.resolve(output) / ("report.json" if make is report else "manifest.json")
        kept = storage.read_bytes(last) if storage.is_file(last) else None
        already = make(sources, output, 1, overwrite=replacing)
        assert_whole(storage.resolve(output), make, 1)
        if already:
            assert storage.read_bytes(last) == kept
    assert instant > (8 if make in (embeddings, index) else 5)


@pytest.mark.parametrize("make", [embeddings, index, report, scenes])
def test_what_is_half_replaced_is_not_called_complete(
    make: Callable[..., bool], store: FaultyS3, sources: dict[str, str], tmp_path: Path
) -> None:
    """By the same again, which the same command finishes; or by another, so that the old one is there in parts."""
    output = f"s3://{BUCKET}/{tmp_path.name}/out"
    make(sources, output, 1, overwrite=False)
    for kind in (1, 0):
        store.plan = Death(4 if make in (embeddings, index) else 3)
        with pytest.raises(StorageRefused):
            make(sources, output, kind, overwrite=True)
        store.plan = None
        if kind == 1:
            assert not make(sources, output, 1, overwrite=False)
            assert_whole(storage.resolve(output), make, 1)
    with pytest.raises(OutputDiffers, match="an unfinished run towards"):
        make(sources, output, 1, overwrite=False)


def test_some_files_of_a_report_are_none(sources: dict[str, str], tmp_path: Path) -> None:
    report(sources, str(tmp_path / "out"), 1, overwrite=False)
    (tmp_path / "out/report.json").unlink()
    assert not report(sources, str(tmp_path / "out"), 1, overwrite=False)
    assert_whole(storage.resolve(tmp_path / "out"), report, 1)


@pytest.fixture
def half(store: FaultyS3, sources: dict[str, str], tmp_path: Path) -> str:
    """An output for which a run was killed when it had copied a part or two and no manifest."""
    output = f"s3://{BUCKET}/{tmp_path.name}/out"
    store.plan = Death(3)
    with pytest.raises(StorageRefused):
        embeddings(sources, output, 1, overwrite=False)
    store.plan = None
    assert storage.list_files(storage.resolve(output))
    assert not storage.exists(storage.resolve(output) / "manifest.json")
    return output


def test_what_was_half_published_is_replaced_by_another_only_when_asked(half: str, sources: dict[str, str]) -> None:
    with pytest.raises(OutputDiffers, match="an unfinished run towards"):
        embeddings(sources, half, 0, overwrite=False)
    embeddings(sources, half, 0, overwrite=True)
    assert_whole(storage.resolve(half), embeddings, 0)


def test_a_failed_attempt_at_another_leaves_it_known_what_is_half_published(
    half: str, sources: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Kind, "write", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            embeddings(sources, half, 0, overwrite=True)
    embeddings(sources, half, 0, overwrite=False)
    assert_whole(storage.resolve(half), embeddings, 0)


@pytest.mark.parametrize("make", [embeddings, report, scenes])
def test_files_of_others_stay_where_a_run_was_killed(
    make: Callable[..., bool], half: str, sources: dict[str, str]
) -> None:
    own = storage.resolve(half) / "images/mine.txt"
    storage.write_bytes(own, b"mine")
    with pytest.raises(UserError, match="has other files in it"):
        make(sources, half, 1, overwrite=True)
    assert storage.read_bytes(own) == b"mine"


@pytest.mark.parametrize("make", [embeddings, index, report, scenes])
def test_a_run_killed_after_it_published_is_not_done_again_with_overwrite(
    make: Callable[..., bool], sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    make(sources, str(output), 0, overwrite=False)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove_file", fail_on("plan.json", storage.remove_file))
        with pytest.raises(KeyboardInterrupt):
            make(sources, str(output), 1, overwrite=True)
    (tmp_path / ".out.retired").mkdir()
    assert make(sources, str(output), 1, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not make(sources, str(output), 1, overwrite=True)


def fail_on(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(location: Location) -> None:
        if location.name == name:
            raise KeyboardInterrupt
        function(location)

    return run


@pytest.mark.parametrize("refusal", [StorageRefused("read only"), PermissionError("read only")])
def test_leftovers_that_may_not_be_removed_do_no_harm(
    refusal: Exception, sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    embeddings(sources, str(output), 1, overwrite=False)
    (tmp_path / ".out.staging").mkdir()

    def refuse(*_: object) -> None:
        raise refusal

    for name in ("write_if", "remove"):
        monkeypatch.setattr(storage, name, refuse)
    assert embeddings(sources, str(output), 1, overwrite=False)


def test_what_a_writer_left_that_was_taken_for_dead_is_not_published(
    sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = storage.publish

    def late(staging: Location, output: Location, *listed: object, last: str) -> None:
        storage.write_bytes(staging / "images/part-1.parquet.0.tmp", b"half")
        publish(staging, output, *listed, last=last)

    monkeypatch.setattr(storage, "publish", late)
    embeddings(sources, str(tmp_path / "out"), 1, overwrite=False)
    assert list((tmp_path / "out").rglob("*.tmp")) == []
