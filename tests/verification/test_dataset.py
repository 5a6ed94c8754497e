"""Any place may be given: what is there is recognised, and a place without a dataset is told what to do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.core.errors import UserError
from faulty_s3 import BUCKET, FaultyS3
from wholesome import edit_manifest, flip_bit


def source_parquet(folder: Path) -> Path:
    (folder / "data").mkdir()
    pq.write_table(pa.table({"id": ["a"]}), folder / "data/part-00000.parquet")
    return folder / "data"


def staging(folder: Path) -> Path:
    (folder / ".out.staging/abc/dataset").mkdir(parents=True)
    return folder / ".out.staging"


def unfinished(folder: Path) -> Path:
    staging(folder)
    return folder / "out"


def manifest_itself(folder: Path) -> Path:
    (folder / "manifest.json").write_text("{}")
    return folder / "manifest.json"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent", "there is no such folder"),
        (
            lambda folder: folder,
            "not a finished dataset; verify knows embeddings, indices, duplicates, selections, reports, texts, captioned rows",
        ),
        (source_parquet, "source Parquet without a manifest: there is no list of what it should hold"),
        (staging, "unfinished work towards out; run the same command again to finish it, then verify out"),
        (lambda folder: staging(folder) / "abc/dataset", "unfinished work towards out"),
        (unfinished, "a run towards it has not finished"),
        (manifest_itself, "is a file; give the folder"),
    ],
)
def test_a_place_without_a_dataset_is_one_sentence(
    make: Callable[[Path], Path], words: str, tmp_path: Path, check: Callable
) -> None:
    with pytest.raises(UserError, match=words):
        check(make(tmp_path))


def test_a_newer_dataset_is_not_judged(embeddings: Path, check: Callable) -> None:
    edit_manifest(embeddings, lambda manifest: manifest.update(schema_version=99))
    with pytest.raises(UserError, match="newer clipmill"):
        check(embeddings)


@pytest.fixture(scope="module")
def store(whole: Path) -> Iterator[FaultyS3]:
    """All datasets in a bucket, their manifests as they are."""
    with FaultyS3() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        for file in whole.rglob("*"):
            if file.is_file():
                server.client.upload_file(str(file), BUCKET, str(file.relative_to(whole)))
        yield server


@pytest.mark.parametrize("name", ["embeddings", "index", "captions_index", "report"])
def test_on_s3_it_is_as_whole_as_on_disk(name: str, store: FaultyS3, whole: Path, check: Callable) -> None:
    for quick in (False, True):
        there, here = check(f"s3://{BUCKET}/{name}", quick=quick), check(whole / name, quick=quick)
        assert there.faults == []
        assert there.checked == here.checked


def test_on_s3_each_shard_is_read_once(store: FaultyS3, check: Callable) -> None:
    read: list[str] = []
    store.plan = lambda number, method, path: read.append(f"{method} {path}") if method == "GET" else None
    try:
        check(f"s3://{BUCKET}/embeddings")
    finally:
        store.plan = None
    shards = [request for request in read if "part-00001" in request and "images" in request]
    assert len(shards) == 1, shards


def test_on_s3_a_corruption_is_found(store: FaultyS3, whole: Path, tmp_path: Path, check: Callable) -> None:
    key = "embeddings/images/part-00002.parquet"
    flipped = tmp_path / "flipped"
    flipped.write_bytes((whole / key).read_bytes())
    flip_bit(flipped)
    store.client.upload_file(str(flipped), BUCKET, key)
    findings = check(f"s3://{BUCKET}/embeddings")
    store.client.upload_file(str(whole / key), BUCKET, key)
    assert len(findings.faults) == 1
    assert "images/part-00002.parquet was altered" in findings.faults[0]


def test_on_s3_with_requests_failing_it_is_the_same(store: FaultyS3, check: Callable) -> None:
    store.share = 0.1
    try:
        assert check(f"s3://{BUCKET}/embeddings").faults == []
    finally:
        store.share = 0.0
