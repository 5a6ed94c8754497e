"""A shard is started once, when all its units are committed, however often one of them is told."""

from pathlib import Path

import pyarrow as pa

from pipeline import storage
from pipeline.flow.layout import Layout
from pipeline.flow.shard_maker import ShardMaker
from pipeline.source.inputs import InputFile
from pipeline.source.units import Units, plan_units


class Started(ShardMaker):
    def __init__(self, layout: Layout, todo: Units) -> None:
        super().__init__(layout, todo)
        self.started: list[int] = []

    def _start(self, shard: int) -> None:
        self.started.append(shard)


def test_a_unit_told_twice_does_not_start_its_shard_early(tmp_path: Path) -> None:
    layout = Layout(storage.resolve(tmp_path), "token", units=4, units_per_shard=2, dimension=4)
    four_rows = InputFile(0, "a.parquet", 1, "", 4, (4,), (400,), pa.schema([]))
    maker = Started(layout, plan_units([four_rows], 1).take([1, 2, 3]))
    maker.note([2, 2])
    assert maker.started == []
    maker.note([1, 3, 3, 1])
    assert maker.started == [0, 1]
