"""Ordinals: a file keeps its own while it is the same, a changed one gets a new one, and none is ever used twice."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.core.errors import UserError
from clipmill.datasets.manifests import Embeddings
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs
from clipmill.versions import changes as changes_module
from clipmill.versions.changes import changes_since
from wholesome import Source, write_whole_embeddings

SOURCES = (Source("a", 30), Source("b", 20), Source("c", 25))


@pytest.fixture
def base(tmp_path: Path) -> Embeddings:
    return Embeddings.open(str(write_whole_embeddings(tmp_path, SOURCES)))


def inputs_of(folder: Path) -> list[InputFile]:
    return find_inputs(str(folder / "source"))


def ordinals(files: list[InputFile]) -> dict[str, int]:
    return {Path(file.path).stem: file.ordinal for file in files}


def test_nothing_has_changed(base: Embeddings, tmp_path: Path) -> None:
    found = changes_since(base, inputs_of(tmp_path))
    assert (found.new, found.dead) == ([], frozenset())
    assert found.summary == "0 files new or changed, 0 gone, 3 as before"


def test_without_a_version_before_all_is_new(tmp_path: Path, base: Embeddings) -> None:
    found = changes_since(None, inputs_of(tmp_path))
    assert ordinals(found.new) == {"a": 0, "b": 1, "c": 2}
    assert found.lines([], {}) == [
        {"ordinal": file.ordinal, "path": file.path, "size": file.size, "etag": file.etag, "rows": 0, "captions": 0}
        | {"dead": False}
        for file in found.files
    ]


def test_new_changed_and_deleted_files(base: Embeddings, tmp_path: Path) -> None:
    source = tmp_path / "source"
    pq.write_table(pa.table({"text": ["new"] * 5}), source / "aa.parquet")
    pq.write_table(pa.table({"text": ["changed"] * 7}), source / "b.parquet")
    (source / "c.parquet").unlink()
    found = changes_since(base, inputs_of(tmp_path))
    assert ordinals(found.files) == {"a": 0, "aa": 3, "b": 4}
    assert [Path(file.path).stem for file in found.new] == ["aa", "b"]
    assert found.dead == {1, 2}
    made = [{**found.lines([], {})[3], "rows": 5}, {**found.lines([], {})[4], "rows": 7}]
    lines = found.lines(made, {})
    assert [line["ordinal"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["dead"] for line in lines] == [False, True, True, False, False]
    assert [line["rows"] for line in lines] == [30, 20, 25, 5, 7]


def test_a_file_that_comes_back_gets_a_new_ordinal(base: Embeddings, tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path)
    without = changes_since(base, [file for file in inputs if not file.path.endswith("b.parquet")])
    table = pa.Table.from_pylist(without.lines([], {}))
    pq.write_table(table, base.location.path + "/inputs.parquet")
    again = changes_since(base, inputs)
    assert ordinals(again.files) == {"a": 0, "c": 2, "b": 3}
    assert again.dead == frozenset()


def test_ordinals_of_a_version_that_was_rolled_back_are_not_given_again(base: Embeddings, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["new"]}), tmp_path / "source/d.parquet")
    found = changes_since(base, inputs_of(tmp_path), used=7)
    assert ordinals(found.new) == {"d": 7}
    assert found.used == 8
    assert changes_since(base, inputs_of(tmp_path), used=2).used == 4


def test_row_numbers_have_an_end(base: Embeddings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"text": ["new"]}), tmp_path / "source/d.parquet")
    monkeypatch.setattr(changes_module, "MAX_FILES", 3)
    with pytest.raises(UserError, match=r"more than 3 source files.*new output"):
        changes_since(base, inputs_of(tmp_path))
