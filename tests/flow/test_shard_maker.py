"""A shard is started once, when all its units are committed, however often one of them is told."""

from pathlib import Path

from pipeline import storage
from pipeline.flow.commit import Layout
from pipeline.flow.embed import ShardMaker
from pipeline.source.units import Span, Unit


class Started(ShardMaker):
    def __init__(self, layout: Layout, todo: list[Unit]) -> None:
        super().__init__(layout, todo)
        self.started: list[int] = []

    def _start(self, shard: int) -> None:
        self.started.append(shard)


def test_a_unit_told_twice_does_not_start_its_shard_early(tmp_path: Path) -> None:
    layout = Layout(storage.resolve(tmp_path), "token", units=4, units_per_shard=2, dimension=4)
    maker = Started(layout, [Unit(number, (Span(0, number, number + 1),)) for number in range(1, 4)])
    maker.note([2, 2])
    assert maker.started == []
    maker.note([1, 3, 3, 1])
    assert maker.started == [0, 1]
