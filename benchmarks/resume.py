"""How long a run over many finished shards takes to know what is left to do.

Makes an input of as many files as shards, each of 131,072 rows, and a staging folder in which all shards but the last are
finished, as a run that was killed would have left them; then plans and opens it as `clipmill embed` does.

    python -m benchmarks.resume --shards 10000
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.settings import EmbedSettings, ModelSettings
from clipmill.embedding.plan import EmbedPlan, find_progress, find_source, make_plan
from clipmill.embedding.statistics import Statistics
from clipmill.encoders.model import load_model
from clipmill.engine.embed_stages import UnitSource
from clipmill.stage.stage import Work
from clipmill.storage.lease import Lease

ROWS = 131_072


def write_input(folder: Path, files: int) -> None:
    """Files of one repeated caption: many rows in few bytes."""
    folder.mkdir()
    table = pa.table(
        {"caption": pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array(["a photo"]))}
    )
    pq.write_table(table, folder / "00000.parquet", row_group_size=ROWS // 8)
    data = (folder / "00000.parquet").read_bytes()
    for file in range(1, files):
        (folder / f"{file:05d}.parquet").write_bytes(data)


def finish_all_but_one(plan: EmbedPlan) -> None:
    """The records and part files of every shard but the last, as the making of shards leaves them."""
    plan.staging.open()
    record = json.dumps({"statistics": vars(Statistics(rows=ROWS)), "shards": []}).encode()
    places = [plan.layout.dataset.path, f"{plan.layout.staging.path}/shards"]
    for place in places:
        Path(place).mkdir(parents=True, exist_ok=True)
    for part in ("images", "captions", "rejected"):
        (Path(plan.layout.dataset.path) / part).mkdir()
    for shard in range(plan.layout.shards - 1):
        Path(plan.layout.shard_record(shard).path).write_bytes(record)
        for part in ("images", "captions", "rejected"):
            (Path(plan.layout.dataset.path) / plan.layout.part_path(part, shard)).touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=10_000)
    shards = parser.parse_args().shards
    model = load_model(ModelSettings())
    with tempfile.TemporaryDirectory() as scratch:
        write_input(Path(scratch) / "input", shards)
        settings = EmbedSettings(input=f"{scratch}/input", output=f"{scratch}/out")
        finish_all_but_one(make_plan(settings, find_source(settings), model.identity, model.preprocessing))
        for _ in range(3):
            began = time.perf_counter()
            plan = make_plan(settings, find_source(settings), model.identity, model.preprocessing)
            planned = time.perf_counter()
            with Lease.acquire(storage.staging_of(plan.output)) as lease:
                plan.staging.open()
                progress = find_progress(plan, Work(plan.staging, lease, plan.outline))
            opened = time.perf_counter()
            tasks = UnitSource(progress.todo, plan.inputs, plan.columns).get_read_tasks(1)
            ready = time.perf_counter()
            print(
                f"{plan.layout.shards} shards, {len(plan.units)} units, {plan.rows} rows: plan {planned - began:.2f} s, "
                f"open {opened - planned:.2f} s, {len(tasks)} read tasks {ready - opened:.2f} s; "
                f"{len(progress.todo)} units left"
            )


if __name__ == "__main__":
    main()
