"""Units become shards once, whole, in order, whoever writes them and however often."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill import storage
from clipmill.core.errors import RunFailed
from clipmill.core.schemas import REJECTED, captions_schema, images_schema
from clipmill.datasets.manifests import embedding_column, vectors_of
from clipmill.embedding.layout import Parts
from clipmill.embedding.statistics import Statistics
from clipmill.embedding.unit import EmbeddedUnit
from clipmill.stage.units.commit import commit_unit, find_finished, pack_unit
from clipmill.stage.units.compact import compact_shard, gather_records, shards_to_make, statistics_of
from clipmill.stage.units.layout import Layout

DIMENSION, ROWS = 4, 3
PARTS = Parts(DIMENSION).all
IMAGES = images_schema(DIMENSION, hashes=True)
HASHES = pa.array([bytes([row]) * 32 for row in range(ROWS)], pa.binary(32))


def unit(number: int, *, rejects: bool = False) -> EmbeddedUnit:
    rows = [number * ROWS + index for index in range(ROWS)]
    vectors = np.full((ROWS, DIMENSION), 0.5, np.float16)
    ids = [str(row) for row in rows]
    images = pa.table([rows, ids, [1] * ROWS, [1] * ROWS, HASHES, embedding_column(vectors)], schema=IMAGES)
    captions = pa.table(
        [
            rows,
            ids,
            pa.array([0] * ROWS, pa.int32()),
            ids,
            embedding_column(vectors),
            pa.array([0.1] * ROWS, pa.float32()),
        ],
        schema=captions_schema(DIMENSION),
    )
    record = {"row": rows[0], "id": "x", "source": "f", "kind": "image", "reason": "empty_image", "detail": ""}
    rejected = pa.Table.from_pylist([record] if rejects else [], schema=REJECTED)
    return EmbeddedUnit(images, captions, rejected, {0: ROWS}, {"encode": 1.0})


def commit(layout: Layout, number: int, **options: bool) -> None:
    made = unit(number, **options)
    commit_unit(layout, number, pack_unit(made.tables, Statistics.of(made, ROWS)))


def make(layout: Layout, *numbers: int, rejects: int | None = None) -> None:
    """Commits these units and makes the shards that are full, as a run does."""
    for number in numbers:
        commit(layout, number, rejects=number == rejects)
    for shard in shards_to_make(layout):
        compact_shard(layout, shard)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(
        storage.resolve(tmp_path / "staging"), "abcd1234", units=7, units_per_shard=3, parts=PARTS, sums=Statistics
    )


def rows_of(layout: Layout, part: str, shard: int) -> list[int]:
    return pq.read_table(layout.dataset.path + "/" + layout.part_path(part, shard)).column("row").to_pylist()


def test_shard_is_made_of_its_units_in_row_order(layout: Layout) -> None:
    for number in (2, 0):
        commit(layout, number)
    assert shards_to_make(layout) == []
    commit(layout, 1)
    assert shards_to_make(layout) == [0]
    compact_shard(layout, 0)
    assert rows_of(layout, "images", 0) == list(range(9))
    assert storage.list_files(layout.unit_folder(0)) == []


def test_a_unit_written_again_after_its_shard_was_made_changes_nothing(layout: Layout) -> None:
    make(layout, 0, 1, 2)
    commit(layout, 1)
    assert rows_of(layout, "images", 0) == list(range(9))
    finished = find_finished(layout)
    assert (finished.shards, shards_to_make(layout)) == ({0}, [])
    assert statistics_of(layout, finished).rows == 3 * ROWS


def test_a_unit_written_twice_is_in_its_shard_once(layout: Layout) -> None:
    make(layout, 0, 0, 1, 2)
    assert rows_of(layout, "captions", 0) == list(range(9))


def test_what_is_finished_is_known_from_names(layout: Layout) -> None:
    make(layout, 0, 1, 2, 4)
    finished = find_finished(layout)
    assert np.flatnonzero(finished.mask(layout)).tolist() == [0, 1, 2, 4]


def test_last_shard_may_be_short_and_records_add_up(layout: Layout) -> None:
    make(layout, *range(7), rejects=4)
    shards, total = gather_records(layout)
    assert rows_of(layout, "images", 2) == [18, 19, 20]
    assert (total.rows, total.images, total.captions, total.rejected_images) == (21, 21, 21, 1)
    assert total.captions_by_file == {"0": 21}
    assert [(shard.part, shard.rows) for shard in shards if shard.part == "rejected"] == [
        ("rejected", 0),
        ("rejected", 1),
    ]
    assert [shard.first_row for shard in shards if shard.part == "images"] == [0, 9, 18]
    for shard in shards:
        location = layout.dataset / shard.path
        assert storage.sha256(location) == shard.sha256


def test_a_shard_whose_units_are_not_all_there_is_not_made(layout: Layout) -> None:
    make(layout, 0, 1, 3)
    assert shards_to_make(layout) == []
    assert find_finished(layout).shards == frozenset()


def test_a_shard_whose_maker_died_half_way_is_made_again_from_its_units(layout: Layout) -> None:
    for number in range(3):
        commit(layout, number)
    storage.write_bytes(layout.dataset / layout.part_path("images", 0), b"half")
    assert shards_to_make(layout) == [0]
    compact_shard(layout, 0)
    assert rows_of(layout, "images", 0) == list(range(9))


def test_making_a_shard_again_gives_the_same_bytes(layout: Layout, tmp_path: Path) -> None:
    make(layout, 0, 1, 2)
    first = gather_bytes(layout)
    again = Layout(
        storage.resolve(tmp_path / "again"), "abcd1234", units=7, units_per_shard=3, parts=PARTS, sums=Statistics
    )
    make(again, 2, 1, 0)
    assert gather_bytes(again) == first


def gather_bytes(layout: Layout) -> list[bytes]:
    return [
        storage.read_bytes(layout.dataset / layout.part_path(part, 0)) for part in ("images", "captions", "rejected")
    ]


def test_embeddings_are_plain_in_the_file(layout: Layout) -> None:
    make(layout, 0, 1, 2)
    file = pq.ParquetFile(layout.dataset.path + "/" + layout.part_path("images", 0))
    group = file.metadata.row_group(0)
    column = next(
        group.column(index) for index in range(group.num_columns) if "embedding" in group.column(index).path_in_schema
    )
    assert column.compression == "UNCOMPRESSED"
    assert not any("DICT" in encoding for encoding in column.encodings)
    assert vectors_of(file.read().column("embedding")).dtype == np.float16


def test_units_that_a_made_shard_left_behind_count_once(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a run was killed after the record and before the units were removed."""
    for number in (0, 1, 2, 4):
        commit(layout, number)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove_files", lambda folder, names: None)
        compact_shard(layout, 0)
    finished = find_finished(layout)
    assert (finished.shards, finished.units) == ({0}, {0, 1, 2, 4})
    assert statistics_of(layout, finished).rows == 4 * ROWS


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_part_that_is_lost_is_refused_and_its_shard_made_anew(layout: Layout, harm: str) -> None:
    make(layout, *range(7))
    part = Path((layout.dataset / layout.part_path("captions", 1)).path)
    part.unlink() if harm == "gone" else part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(RunFailed, match=part.name):
        gather_records(layout)
    assert np.flatnonzero(~find_finished(layout).mask(layout)).tolist() == [3, 4, 5]
    make(layout, 3, 4, 5)
    assert gather_records(layout)[1].rows == 7 * ROWS


def test_a_shard_that_another_made_meanwhile_is_taken_as_made(layout: Layout) -> None:
    """A task of a driver that was killed may go on beside that of the next driver."""
    for number in range(3):
        commit(layout, number)
    meanwhile = [lambda: compact_shard(layout, 0)]
    compact_shard(layout, 0, lambda: meanwhile.pop()() if meanwhile else None)
    assert rows_of(layout, "images", 0) == list(range(9))
    assert shards_to_make(layout) == []


def test_units_that_are_gone_without_their_shard_are_an_error(layout: Layout) -> None:
    commit(layout, 0)
    with pytest.raises(FileNotFoundError):
        compact_shard(layout, 0)


def test_units_of_a_version_that_kept_no_hashes_become_shards_with_nulls_in_their_place(tmp_path: Path) -> None:
    layout = Layout(storage.resolve(tmp_path), "abc", units=2, units_per_shard=2, parts=PARTS, sums=Statistics)
    for number in range(2):
        made = unit(number)
        if number == 0:
            old = made.images.drop_columns(["image_sha256"])
            made = EmbeddedUnit(old, made.captions, made.rejected, made.captions_by_file, made.seconds)
        commit_unit(layout, number, pack_unit(made.tables, Statistics.of(made, ROWS)))
    compact_shard(layout, 0)
    table = pq.read_table(tmp_path / "dataset" / layout.part_path("images", 0))
    assert table.schema.equals(IMAGES)
    assert table.column("image_sha256").to_pylist() == [None] * ROWS + HASHES.to_pylist()
