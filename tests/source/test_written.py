"""Of source Parquet that clipmill wrote, a reader takes what the manifest lists, whole, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill import storage
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ImportVectorsSettings, SampleSettings
from clipmill.scenes import dataset
from clipmill.scenes.dataset import write_scenes
from clipmill.source.importers.vectors import import_vectors
from clipmill.source.inputs import find_inputs
from clipmill.storage.s3 import publish


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "ROWS_PER_FILE", 2)


def sample(output: Path | str, rows: int = 5) -> Path:
    write_scenes(SampleSettings(output=str(output), rows=rows, image_size=32), Silent())
    return Path(output)


def names(uri: Path | str) -> list[str]:
    return [Path(file.path).name for file in find_inputs(str(uri))]


def test_only_the_files_that_the_manifest_lists_are_read(tmp_path: Path) -> None:
    out = sample(tmp_path / "out")
    pq.write_table(pa.table({"id": ["x"]}), out / "part-00009.parquet")
    assert names(out) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]


def test_a_folder_of_several_is_read_by_each_of_their_manifests(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        sample(tmp_path / folder, 3)
        pq.write_table(pa.table({"id": ["x"]}), tmp_path / folder / "stray.parquet")
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "own.parquet")
    assert [file.path.removeprefix(f"{tmp_path}/") for file in find_inputs(str(tmp_path))] == [
        "a/part-00000.parquet",
        "a/part-00001.parquet",
        "b/part-00000.parquet",
        "b/part-00001.parquet",
        "own.parquet",
    ]


def test_a_listed_file_that_is_gone_or_another_is_named(tmp_path: Path) -> None:
    out = sample(tmp_path / "out")
    whole = (out / "part-00001.parquet").read_bytes()
    (out / "part-00001.parquet").write_bytes(whole[:-9])
    with pytest.raises(RunFailed, match=r"part-00001\.parquet is missing, or was cut short or replaced .* --overwrite"):
        find_inputs(str(out))
    (out / "part-00001.parquet").unlink()
    with pytest.raises(RunFailed, match=r"part-00001\.parquet is missing"):
        find_inputs(str(out))


def test_what_was_made_of_a_source_is_not_taken_for_one(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", np.ones((3, 4), np.float32))
    output = str(tmp_path / "out")
    import_vectors(ImportVectorsSettings(images=str(tmp_path / "i.npy"), output=output), Silent())
    with pytest.raises(UserError, match=r"embeddings .*, and not a source of pictures and captions"):
        find_inputs(output)


def test_a_manifest_of_somebody_else_changes_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "x.parquet")
    (tmp_path / "manifest.json").write_text('{"kind": "theirs"}')
    assert names(tmp_path) == ["x.parquet"]


def test_what_is_half_published_is_refused_until_it_is_whole(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publish, "put_if", killed)
        with pytest.raises(KeyboardInterrupt):
            sample("s3://photos/half")
    assert storage.list_files(storage.resolve("s3://photos/half"))
    with pytest.raises(RunFailed, match="s3://photos/half is only partly there"):
        find_inputs("s3://photos/half")
    sample("s3://photos/half")
    assert names("s3://photos/half") == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
