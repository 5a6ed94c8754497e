"""What a run of many units takes of the process that drives it, and of each driver of a slice, with stages that do nothing.

Real Ray Data on this machine: units are read, pass an actor pool and a last stage as those of an embed run do, and are
followed in slices. Told are, per unit: what this process grows by and takes of a core, messages to the busiest actor, and
each slice driver's peak.

    python -m benchmarks.slices --units 5000 20000 50000 --drivers 2
"""

import argparse
import json
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import psutil
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Datasource, ReadTask
from ray.data.block import BlockMetadata

from clipmill.core.settings import ClusterSettings
from clipmill.engine import slices as engine_slices
from clipmill.engine.beacons import doing
from clipmill.engine.cluster import connect
from clipmill.engine.embed_graph import quiet_context
from clipmill.engine.slice_driver import Committed
from clipmill.engine.slices import SliceRun, cut
from clipmill.engine.stop import StopSwitch
from clipmill.engine.watch import Patience, Reported, signs_to, start_tally
from clipmill.source.cutting import plan_units
from clipmill.source.grouping import read_groups
from clipmill.source.input_file import InputFile
from clipmill.source.units import Units
from clipmill.stage.units.sums import Sums

ROWS_A_UNIT = 445


class Source(Datasource):
    """A block a unit, with nothing in it but its number."""

    def __init__(self, groups: list[Units]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._groups = groups

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        def task(numbers: list[int]) -> ReadTask:
            def read() -> Iterator[pa.Table]:
                for number in numbers:
                    yield pa.table({"unit": [number]})

            metadata = BlockMetadata(num_rows=len(numbers), size_bytes=None, input_files=None, exec_stats=None)
            return ReadTask(read, metadata, schema=pa.schema([("unit", pa.int64())]))

        return [task(units.numbers.tolist()) for units in self._groups]


def decode(block: pa.Table, token: str) -> pa.Table:
    with doing(token, block.column("unit")[0].as_py(), "decoding"):
        return block


class Encode:
    def __init__(self, tally: Any, token: str) -> None:
        ray.get(tally.starting.remote(ray.get_runtime_context().get_actor_id()))
        self._alive, self._token = signs_to(tally, 10.0), token
        tally.started.remote()

    def __call__(self, block: pa.Table) -> pa.Table:
        with doing(self._token, block.column("unit")[0].as_py(), "encoding"):
            self._alive()
            return block


def commit(block: pa.Table) -> pa.Table:
    return block.append_column("counts", pa.array([json.dumps({"rows": ROWS_A_UNIT})]))


@dataclass(frozen=True)
class Nothing:
    """The embed graph with stages that do nothing."""

    encoders: int
    share: float
    doing = "doing nothing"

    def run(
        self, units: Units, inputs: Sequence[InputFile], tally: Any, switch: StopSwitch, token: str
    ) -> Iterator[Committed[Sums]]:
        quiet_context(switch, self.share)
        source = Source(read_groups(units, inputs))
        groups = len(source._groups)
        data = ray.data.read_datasource(source, override_num_blocks=groups, num_cpus=0.02, concurrency=self.encoders)
        data = data.map_batches(decode, fn_kwargs={"token": token}, batch_size=1, batch_format="pyarrow", num_cpus=0.2)
        data = data.map_batches(
            Encode,
            fn_constructor_args=(tally, token),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=self.encoders),
            num_cpus=0.25,
        )
        data = data.map_batches(commit, batch_size=1, batch_format="pyarrow", num_cpus=0.02)
        for block in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for unit, counts in zip(block.column("unit").to_pylist(), block.column("counts").to_pylist(), strict=True):
                yield Committed(unit, json.loads(counts), Sums(ROWS_A_UNIT))


class Peaks:
    """The most memory that the drivers of slices hold, each and together, in GB, looked at every two seconds. ``seconds`` of
    CPU are what looking took, which is none of the head's work."""

    def __init__(self) -> None:
        self.each = self.sum = self.seconds = 0.0
        self._over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._over.wait(2.0):
            sizes = []
            for process in psutil.process_iter(["cmdline"]):
                line = " ".join(process.info["cmdline"] or [])
                if line.startswith("ray::SliceDriver"):
                    try:
                        sizes.append(process.memory_info().rss / 1e9)
                    except psutil.Error:
                        continue
            self.each, self.sum = max([self.each, *sizes]), max(self.sum, sum(sizes))
            self.seconds = time.thread_time()

    def end(self) -> None:
        self._over.set()


def measure(count: int, drivers: int) -> dict[str, float]:
    """One run of so many units, a row group each."""
    inputs = [
        InputFile(at, f"{at}", 1, "", 1000 * ROWS_A_UNIT, (ROWS_A_UNIT,) * 1000, (1,) * 1000, pa.schema([]))
        for at in range(-(-count // 1000))
    ]
    units = plan_units(inputs, ROWS_A_UNIT, count * ROWS_A_UNIT)
    slices = cut(units, inputs, encoders=2, on_gpus=False, drivers=drivers)
    done = signs = 0

    def told(reported: Reported) -> None:
        nonlocal done, signs
        done += len(reported.units)
        signs += reported.signs

    run = SliceRun(
        graphs=[Nothing(max(1, 2 // slices.at_once), 1 / slices.at_once)] * slices.at_once,
        sums=Sums,
        units=units,
        inputs=inputs,
        cut=slices,
        tally=start_tally(),
        patience=Patience(600),
        told=told,
        waiting_for=lambda: "units",
    )
    process, peaks = psutil.Process(), Peaks()
    questions: Counter[int] = Counter()
    take = engine_slices._There.take

    def counted(there: Any) -> Reported:
        asked = there._asked
        reported = take(there)
        questions[id(there)] += there._asked is not None and there._asked is not asked
        return reported

    began, cpu, grown = time.perf_counter(), time.process_time(), process.memory_info().rss
    with patch.object(engine_slices._There, "take", counted):
        run.run()
    peaks.end()
    assert done == count
    seconds = time.perf_counter() - began
    return {
        "units": count,
        "slices": len(slices.slices),
        "seconds": round(seconds, 1),
        "head: KB a unit": round((process.memory_info().rss - grown) / 1e3 / count, 3),
        "head: CPU ms a unit": round(1000 * (time.process_time() - cpu - peaks.seconds) / count, 3),
        "head: peak GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "largest driver: GB": round(peaks.each, 2),
        "all drivers: GB": round(peaks.sum, 2),
        # A driver is asked by this process, and asks its tally as often, which hears of encoders beside.
        "messages to the busiest driver a unit": round(
            max(questions.values(), default=0) / (count / len(questions)), 4
        ),
        "messages to all tallies a unit": round((sum(questions.values()) + signs) / count, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[5_000, 20_000, 50_000])
    parser.add_argument("--drivers", type=int, nargs="+", default=[2])
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    with connect(ClusterSettings(cpus=2)):
        for drivers in given.drivers:
            for units in given.units:
                print(json.dumps(measure(units, drivers)), flush=True)


if __name__ == "__main__":
    main()
