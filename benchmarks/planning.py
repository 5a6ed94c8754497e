"""What planning takes at the size of five billion rows: listing, footers, cutting into units, grouping, and knowing after a
kill what is left.

Writes an input of many files (hard links to one, whose row groups are small or large), reads its footers once, leaves a
staging folder in which half of the shards are finished as a run that was killed would have, and then plans, continues
and cuts into slices as `clipmill embed` does, in a process of its own.

    python -m benchmarks.planning --files 300000 --units-a-file 40
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.settings import EmbedSettings, ModelSettings
from clipmill.embedding.plan import EmbedPlan, find_source, make_plan
from clipmill.embedding.statistics import Statistics
from clipmill.encoders.model import load_model
from clipmill.engine.slices import cut
from clipmill.source.footers import save_footers
from clipmill.source.grouping import read_groups
from clipmill.source.planned import find_progress, footers_of
from clipmill.stage.stage import Work
from clipmill.storage.lease import Lease

UNIT_ROWS = 1024
"""Of the built-in model, which is small."""
GROUP_UNITS = 8
"""Units of a large row group."""
LINKS = 60_000
"""A file has no more names than this on common disks."""
LOOSE = 100_000
"""Units that are committed and in no shard yet, at most, when the run is killed."""


def write_input(folder: Path, files: int, units: int, small: bool) -> None:
    """Files of ``units`` units each, in few bytes; with ``small`` a row group is a unit, else it holds eight."""
    folder.mkdir()
    group = UNIT_ROWS if small else UNIT_ROWS * GROUP_UNITS
    rows = UNIT_ROWS * units
    table = pa.table(
        {"caption": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a photo"]))}
    )
    pq.write_table(table, folder.parent / "first", row_group_size=group)
    data = (folder.parent / "first").read_bytes()
    for at in range(files):
        name = folder / f"{at:07d}.parquet"
        if at % LINKS == 0:
            name.write_bytes(data)
            linked = name
        else:
            os.link(linked, name)


def settings_of(scratch: str) -> EmbedSettings:
    return EmbedSettings(input=f"{scratch}/input", output=f"{scratch}/out")


def kill_half_way(scratch: str) -> None:
    """Leaves the records of every second shard, and loose units of the others."""
    plan = planned(scratch)
    plan.staging.open()
    layout = plan.layout
    record = json.dumps({"statistics": vars(Statistics(rows=1)), "shards": []}).encode()
    shards = Path(f"{layout.staging.path}/shards")
    shards.mkdir(parents=True, exist_ok=True)
    storage.write_bytes(layout.dataset / layout.part_path("captions", 0), b"")
    loose = 0
    for shard in range(layout.shards):
        if shard % 2 == 0:
            (shards / f"{shard:05d}.json").write_bytes(record)
        elif loose < LOOSE:
            Path(layout.unit_folder(shard).path).mkdir(parents=True)
            for unit in layout.units_of(shard)[:-1]:
                Path(layout.unit_file(unit).path).touch()
                loose += 1


def planned(scratch: str) -> EmbedPlan:
    settings = settings_of(scratch)
    model = load_model(ModelSettings())
    return make_plan(settings, find_source(settings), model.identity, model.preprocessing)


def read_all_footers(scratch: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    with timed(told, "footers"):
        source = find_source(settings_of(scratch))
        save_footers(footers_of(settings_of(scratch).output), source.inputs)
    return told


def continue_run(scratch: str) -> dict[str, Any]:
    """Each step of a start after a kill, in seconds."""
    told: dict[str, Any] = {}
    settings = settings_of(scratch)
    model = load_model(ModelSettings())
    with timed(told, "list, and footers as kept"):
        source = find_source(settings)
    with timed(told, "cut into units"):
        plan = make_plan(settings, source, model.identity, model.preprocessing)
    with timed(told, "fingerprint"):
        assert plan.fingerprint
    with timed(told, "what is left"), Lease.acquire(storage.staging_of(plan.output)) as lease:
        continued = plan.staging.open()
        progress = find_progress(plan, Work(plan.staging, lease, plan.outline, continued))
    with timed(told, "cut into slices"):
        runs = cut(progress.todo, plan.inputs, encoders=1000, on_gpus=True)
    with timed(told, "read groups of a slice"):
        groups = read_groups(progress.todo[runs.slices[0]], plan.inputs)
    told |= {
        "files": len(plan.inputs),
        "units": len(plan.units),
        "left": len(progress.todo),
        "slices": len(runs.slices),
        "tasks of the first slice": len(groups),
    }
    return told


@contextmanager
def timed(told: dict[str, Any], step: str) -> Any:
    began = time.perf_counter()
    yield
    told[step] = round(time.perf_counter() - began, 1)


def apart(work: Callable[[str], Any], scratch: str) -> Any:
    """The result of some work in a process of its own, with the most memory that it held, in GB."""

    def child(pipe: Any) -> None:
        result = work(scratch) or {}
        pipe.send({**result, "peak GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)})

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
    process.start()
    there.close()
    result = here.recv()
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--units-a-file", type=int, default=40)
    parser.add_argument("--small-row-groups", action="store_true", help="a row group a unit; else it holds eight units")
    parser.add_argument("--scratch", help="where the files go, some gigabytes of inodes; default: the temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        write_input(Path(scratch) / "input", given.files, given.units_a_file, given.small_row_groups)
        for work in (read_all_footers, kill_half_way, continue_run):
            told = apart(work, scratch)
            print(f"{work.__name__.replace('_', ' ')}: " + ", ".join(f"{name} {value}" for name, value in told.items()))


if __name__ == "__main__":
    main()
