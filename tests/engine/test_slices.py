"""A run in slices does every unit once, whichever process drives it and whatever is lost meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
import ray

from clipmill.core.errors import RunFailed
from clipmill.core.settings import ClusterSettings
from clipmill.engine.beacons import doing
from clipmill.engine.cluster import Cluster, connect
from clipmill.engine.slice_driver import Committed
from clipmill.engine.slices import SliceRun, Slices, cut, shares
from clipmill.engine.stop import StopSwitch
from clipmill.engine.watch import Patience, Reported, start_tally
from clipmill.source.cutting import plan_units
from clipmill.source.input_file import InputFile
from clipmill.source.units import Units
from clipmill.stage.units.sums import Sums


def an_input(ordinal: int, row_groups: list[int]) -> InputFile:
    sizes = tuple(rows * 100 for rows in row_groups)
    return InputFile(ordinal, f"file {ordinal}", 1, "", sum(row_groups), tuple(row_groups), sizes, pa.schema([]))


INPUTS = [an_input(ordinal, [50, 30]) for ordinal in range(30)]
UNITS = plan_units(INPUTS, 20)


@pytest.mark.parametrize(
    ("units", "encoders", "on_gpus", "drivers", "at_once", "slices"),
    [
        (10, 2, True, 0, 1, 1),
        (90_000, 32, False, 0, 1, 1),
        (250_000, 2, True, 0, 1, 3),
        (9_000, 64, True, 0, 2, 2),
        (1_000_000, 32, True, 0, 16, 32),
        (12_000_000, 1000, True, 0, 500, 1000),
        (10, 4, False, 2, 2, 2),
        (10, 2, False, 8, 2, 2),
    ],
)
def test_slices_suit_the_encoders(
    units: int, encoders: int, on_gpus: bool, drivers: int, at_once: int, slices: int
) -> None:
    """Worked out by hand: a driver for two GPUs or 32 cores, 5,000 to 100,000 units a slice, two slices a driver."""
    inputs = [an_input(0, [1] * units)]
    found = cut(plan_units(inputs, 1), inputs, encoders=encoders, on_gpus=on_gpus, drivers=drivers)
    assert (found.at_once, len(found.slices)) == (at_once, slices)


@pytest.mark.parametrize(("encoders", "at_once"), [(8, 2), (5, 2), (7, 3), (1, 1)])
def test_every_encoder_has_a_slice_to_work_for(encoders: int, at_once: int) -> None:
    found = shares(encoders, at_once)
    assert (sum(found), len(found)) == (encoders, at_once)
    assert max(found) - min(found) <= 1


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One cluster for all of them, whose workers need not find this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with connect(ClusterSettings(cpus=2)) as cluster:
        yield cluster


@dataclass(frozen=True)
class Noting:
    """Notes each unit as a file, and dies in its driver at those of ``deadly``, once each."""

    folder: str
    deadly: tuple[int, ...] = ()
    failing: int = -1
    seconds: float = 0.0

    doing = "noting"

    def run(
        self, units: Units, inputs: Sequence[InputFile], tally: Any, switch: StopSwitch, token: str
    ) -> Iterator[Committed[Sums]]:
        for unit in units:
            time.sleep(self.seconds)
            if unit.number == self.failing:
                left_by_a_worker(token, unit.number)
                raise RuntimeError("a bad unit")
            died = Path(self.folder) / f"died at {unit.number}"
            if unit.number in self.deadly and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            with (Path(self.folder) / str(unit.number)).open("a") as file:
                file.write(".")
            yield Committed(unit.number, {"rows": unit.rows}, Sums(unit.rows))


def left_by_a_worker(token: str, unit: int) -> None:
    """What a worker leaves that dies at a unit."""
    child = subprocess.Popen(["true"])
    child.wait()
    with patch("os.getpid", lambda: child.pid), patch("pathlib.Path.unlink"), doing(token, unit, "noting"):
        pass


@dataclass
class Run:
    """What a run told, and did."""

    units: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def told(self, reported: Reported) -> None:
        self.units += reported.units
        self.counts.update(reported.counts)

    def of(self, graph: Noting, slices: Slices, stall: float = 60) -> Sums:
        run = SliceRun(
            graphs=[graph] * slices.at_once,
            sums=Sums,
            units=UNITS,
            inputs=INPUTS,
            cut=slices,
            tally=start_tally(),
            patience=Patience(stall),
            told=self.told,
            waiting_for=lambda: "units",
        )
        return run.run()


@pytest.mark.cluster
@pytest.mark.parametrize("drivers", [1, 3])
def test_every_unit_is_done_and_told_once(drivers: int, tmp_path: Path, cluster: Cluster) -> None:
    run = Run()
    total = run.of(Noting(str(tmp_path)), cut(UNITS, INPUTS, encoders=3, on_gpus=False, drivers=drivers))
    rows = sum(file.rows for file in INPUTS)
    assert sorted(run.units) == UNITS.numbers.tolist()
    assert (total.rows, run.counts["rows"]) == (rows, rows)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {str(n): "." for n in UNITS.numbers}


@pytest.mark.cluster
def test_a_slice_whose_driver_is_lost_is_continued(tmp_path: Path, cluster: Cluster) -> None:
    run, deadly = Run(), (int(UNITS.numbers[2]), int(UNITS.numbers[-3]))
    slices = cut(UNITS, INPUTS, encoders=2, on_gpus=False, drivers=2)
    total = run.of(Noting(str(tmp_path), deadly=deadly, seconds=0.02), slices)
    assert total.rows == run.counts["rows"] == sum(file.rows for file in INPUTS)
    assert sorted(run.units) == UNITS.numbers.tolist()
    assert len([file for file in tmp_path.iterdir() if file.name.startswith("died")]) == 2


@pytest.mark.cluster
@pytest.mark.parametrize("drivers", [1, 2])
def test_a_failure_names_the_rows_that_were_being_worked_on(drivers: int, tmp_path: Path, cluster: Cluster) -> None:
    slices = cut(UNITS, INPUTS, encoders=2, on_gpus=False, drivers=drivers)
    number = int(UNITS.numbers[5])
    (span,) = UNITS[5].spans
    place = f"noting rows {span.start} to {span.stop - 1} of file {span.ordinal}"
    with pytest.raises(RunFailed, match=rf"noting \({place}\) failed in a worker \(.*a bad unit\)"):
        Run().of(Noting(str(tmp_path), failing=number), slices)


@pytest.mark.cluster
def test_drivers_do_not_go_on_after_ctrl_c(tmp_path: Path, cluster: Cluster) -> None:
    """In a process that was connected before, and lives on."""
    run, slices = Run(), cut(UNITS, INPUTS, encoders=2, on_gpus=False, drivers=2)

    def told(reported: Reported) -> None:
        if reported.units:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), patch.object(Run, "told", lambda self, reported: told(reported)):
        run.of(Noting(str(tmp_path), seconds=0.2), slices)
    done = len(list(tmp_path.iterdir()))
    time.sleep(4)
    assert len(list(tmp_path.iterdir())) <= done + 2 < len(UNITS)


@pytest.mark.cluster
@pytest.mark.parametrize("drivers", [1, 2])
def test_a_run_in_which_nothing_moves_is_ended(drivers: int, tmp_path: Path, cluster: Cluster) -> None:
    slices = cut(UNITS, INPUTS, encoders=2, on_gpus=False, drivers=drivers)
    with pytest.raises(RunFailed, match="nothing moved for 3 s while waiting for units"):
        Run().of(Noting(str(tmp_path), seconds=30), slices, stall=3)
