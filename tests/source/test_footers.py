"""Footers are read once: a file that the listing shows unchanged is not opened again."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from clipmill.core.errors import UserError
from clipmill.source import footers, inputs
from clipmill.source.footers import read_footers, save_footers
from clipmill.source.inputs import find_inputs
from clipmill.storage import resolve
from clipmill_jobs.__main__ import main


@pytest.fixture(autouse=True)
def _of_few_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footers, "LEAST_FILES", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "input"
    made.mkdir()
    pq.write_table(pa.table({"caption": ["a", "b", "c"]}), made / "a.parquet", row_group_size=2)
    pq.write_table(pa.table({"caption": ["d"], "label": [1]}), made / "b.parquet")
    return made


def garble(file: Path) -> None:
    """Other bytes under the same size and time."""
    before = file.stat()
    file.write_bytes(b"x" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_footers_read_back_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    files = find_inputs(str(folder))
    save_footers(resolve(tmp_path / "footers.arrow"), files)
    garble(folder / "a.parquet")
    assert find_inputs(str(folder), resolve(tmp_path / "footers.arrow")) == files
    with pytest.raises(UserError):
        find_inputs(str(folder))


def test_a_file_that_changed_is_read_again(folder: Path, tmp_path: Path) -> None:
    save_footers(resolve(tmp_path / "footers.arrow"), find_inputs(str(folder)))
    pq.write_table(pa.table({"caption": ["e", "f"]}), folder / "a.parquet")
    os.utime(folder / "a.parquet", ns=(0, 1))
    known = resolve(tmp_path / "footers.arrow")
    assert [file.rows for file in find_inputs(str(folder), known)] == [2, 1]


def test_ordinals_follow_the_listing_of_now(folder: Path, tmp_path: Path) -> None:
    save_footers(resolve(tmp_path / "footers.arrow"), find_inputs(str(folder)))
    pq.write_table(pa.table({"caption": ["z"]}), folder / "0.parquet")
    known = resolve(tmp_path / "footers.arrow")
    found = find_inputs(str(folder), known)
    assert [(file.ordinal, Path(file.path).name) for file in found] == [
        (0, "0.parquet"),
        (1, "a.parquet"),
        (2, "b.parquet"),
    ]


@pytest.mark.parametrize("data", [None, b"", b"not arrow"])
def test_nothing_is_known_from_what_cannot_be_read(data: bytes | None, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "footers.arrow").write_bytes(data)
    assert read_footers(resolve(tmp_path / "footers.arrow")) == {}


def test_of_few_files_nothing_is_kept_since_they_are_as_quickly_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footers, "LEAST_FILES", 3)
    save_footers(resolve(tmp_path / "footers.arrow"), find_inputs(str(folder)))
    assert read_footers(resolve(tmp_path / "footers.arrow")) == {}


def test_what_was_read_before_a_kill_is_not_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many files, pieces are kept as they are read; here the last is damaged."""
    monkeypatch.setattr(inputs, "_A_PIECE", 1)
    kept = resolve(tmp_path / "footers.arrow")
    garble(folder / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet"):
        find_inputs(str(folder), kept)
    assert [Path(path).name for path in read_footers(kept)] == ["a.parquet"]
    garble(folder / "a.parquet")
    pq.write_table(pa.table({"caption": ["d"], "label": [1]}), folder / "b.parquet")
    assert [file.rows for file in find_inputs(str(folder), kept)] == [3, 1]


def test_pieces_become_one_file_once_all_is_saved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_A_PIECE", 1)
    kept = resolve(tmp_path / "footers.arrow")
    found = find_inputs(str(folder), kept)
    save_footers(kept, found)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("footers")] == ["footers.arrow"]
    assert find_inputs(str(folder), kept) == found


def test_who_only_looks_keeps_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_A_PIECE", 1)
    done = CliRunner().invoke(
        main, ["embed", "--input", str(folder), "--output", str(tmp_path / "out"), "--limit", "2", "--dry-run"]
    )
    assert done.exit_code == 0, done.output
    assert [file.name for file in tmp_path.iterdir()] == ["input"]
