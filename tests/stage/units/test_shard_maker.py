"""A shard is started once, when all its units are committed, however often one of them is told."""

from pathlib import Path

import numpy as np

from clipmill import storage
from clipmill.stage.units.commit import Finished
from clipmill.stage.units.layout import Layout
from clipmill.stage.units.shard_maker import ShardMaker
from clipmill.stage.units.sums import Sums


class Noted:
    """Takes the place of tasks on Ray: notes what was started."""

    tally = None

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, what: str, *arguments: object, **options: object) -> None:
        self.started.append(what)

    def poll(self) -> None:
        pass


def test_a_unit_told_twice_does_not_start_its_shard_early(tmp_path: Path) -> None:
    layout = Layout(storage.resolve(tmp_path), "token", units=4, units_per_shard=2, parts=(), sums=Sums)
    tasks = Noted()
    maker = ShardMaker(layout, np.array([1, 2, 3]), Finished(frozenset(), frozenset({0})), tasks)
    maker.note([2, 2])
    assert tasks.started == []
    maker.note([1, 3, 3, 1])
    assert tasks.started == ["making shard 0", "making shard 1"]
