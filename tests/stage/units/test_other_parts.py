"""Units of any stage become shards: of other parts than embeddings, with sums of its own."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.stage.units.commit import commit_unit, pack_unit
from clipmill.stage.units.compact import compact_shard, gather_records
from clipmill.stage.units.layout import Layout, Part
from clipmill.stage.units.sums import REASON, Sums

WORDS = pa.schema([pa.field("row", pa.int64()), pa.field("word", pa.string())])
DROPPED = pa.schema([pa.field("row", pa.int64()), pa.field("why", pa.string())])


@dataclass
class Words(Sums):
    EXTREME: ClassVar = {"longest": max}
    MADE: ClassVar = ("words",)
    REJECTED: ClassVar = ("dropped",)

    words: int = 0
    dropped: int = 0
    longest: int | None = None


def unit(number: int) -> tuple[dict[str, pa.Table], Words]:
    rows = [10 * number + at for at in range(3)]
    tables = {
        "words": pa.table({"row": rows, "word": ["w" * (row + 1) for row in rows]}, schema=WORDS),
        "dropped": pa.table({"row": rows[:1], "why": ["short"]}, schema=DROPPED),
    }
    return tables, Words(rows=4, reasons=Counter(short=1), words=3, dropped=1, longest=rows[-1] + 1)


def test_parts_and_sums_of_another_stage_go_the_same_way(tmp_path: Path) -> None:
    parts = (Part("words", WORDS), Part("dropped", DROPPED))
    layout = Layout(storage.resolve(tmp_path), "abc", units=3, units_per_shard=2, parts=parts, sums=Words)
    for number in (2, 0, 1):
        commit_unit(layout, number, pack_unit(*unit(number)))
    for shard in range(layout.shards):
        compact_shard(layout, shard)
    files, total = gather_records(layout)
    assert [(file.part, file.rows) for file in files] == [("words", 6), ("words", 3), ("dropped", 2), ("dropped", 1)]
    assert total == Words(rows=12, reasons=Counter(short=3), words=9, dropped=3, longest=23)
    assert total.counts() == {"rows": 12, "words": 9, "dropped": 3, REASON + "short": 3}
    table = pq.read_table(tmp_path / "dataset" / layout.part_path("words", 0))
    assert table.column("row").to_pylist() == [0, 1, 2, 10, 11, 12]


def test_a_part_says_how_many_rows_its_row_groups_have(tmp_path: Path) -> None:
    parts = (Part("words", WORDS, row_group_rows=4), Part("dropped", DROPPED))
    layout = Layout(storage.resolve(tmp_path), "abc", units=3, units_per_shard=3, parts=parts, sums=Words)
    for number in range(3):
        commit_unit(layout, number, pack_unit(*unit(number)))
    compact_shard(layout, 0)
    words = pq.ParquetFile(tmp_path / "dataset" / layout.part_path("words", 0)).metadata
    assert [words.row_group(group).num_rows for group in range(words.num_row_groups)] == [4, 4, 1]
    assert pq.ParquetFile(tmp_path / "dataset" / layout.part_path("dropped", 0)).num_row_groups == 1
