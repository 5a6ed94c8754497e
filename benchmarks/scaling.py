"""Whether time a row stays flat as the input grows, and whether more workers do as much more.

Growth: `clipmill embed` over more and more small pictures, with an untrained model of a few thousand weights, so that a
million rows take minutes and what is measured is everything around the encoder. Workers: encoders that take a fixed time a
batch and no processor, so that a small machine can hold many; each is given the same number of pictures.

    python -m benchmarks.scaling --rows 1000 --rows 1000000 --workers 2 --workers 8
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.fixed_latency import LATENCY_SECONDS, FixedLatency
from benchmarks.memory import write_input, write_model
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, ModelSettings
from clipmill.embedding.plan import find_source, make_plan
from clipmill.encoders.model import load_model
from clipmill.engine.cluster import connect
from clipmill.engine.embed import embed
from clipmill.source.cutting import plan_units

BATCH = 32
_BATCHES_A_UNIT = 2
_UNITS_A_WORKER = 80


def growth(rows: int, scratch: Path) -> dict[str, float]:
    """Seconds of one `clipmill embed`, and of that while encoders were at work."""
    source, output = scratch / f"input-{rows}", scratch / "out"
    if not source.exists():
        write_input(source, rows)
    arguments = [
        "--input",
        str(source),
        "--output",
        str(output),
        "--model",
        f"local-dir:{scratch}/model",
        "--overwrite",
        "--address",
        "local",
    ]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "clipmill_jobs", "embed", *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    wall = time.monotonic() - began
    return {"seconds": wall, "encoding": _window(json.loads(done.stdout), encoders=2)}


def worker_rate(workers: int, scratch: Path) -> float:
    """Pictures a second from the first batch to the last, with so many encoders."""
    rows = workers * _UNITS_A_WORKER * _BATCHES_A_UNIT * BATCH
    source = scratch / f"workers-{workers}"
    write_input(source, rows, row_group_size=_BATCHES_A_UNIT * BATCH)
    model = load_model(ModelSettings(model=f"local-dir:{scratch}/model"))
    model.network.__class__ = FixedLatency
    settings = EmbedSettings(
        input=str(source), output=str(scratch / f"out-{workers}"), model=f"local-dir:{scratch}/model", batch_size=BATCH
    )
    plan = make_plan(settings, find_source(settings), model.identity, model.preprocessing)
    plan = replace(plan, units=plan_units(plan.inputs, _BATCHES_A_UNIT * BATCH, None))
    cluster_settings = ClusterSettings(cpus=workers)
    with connect(cluster_settings):
        manifest = plan.run(lambda work: embed(plan, model, cluster_settings, Silent(), work)).manifest
    return rows / _window(manifest.model_dump(), encoders=workers)


def _window(manifest: dict[str, Any], encoders: int) -> float:
    """Seconds from the first picture to the last: busy is the encoders' time over all they had in it."""
    spent = manifest["throughput"]["stage_seconds"]
    encoding = spent["encode_images"] + spent["encode_captions"]
    return float(encoding / (encoders * manifest["runs"][-1]["encoder_busy"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", default=[])
    parser.add_argument("--workers", type=int, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=3, help="Of sizes up to 100,000 rows; the median is told.")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.getcwd()  # workers import what lies here too
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        write_model(scratch / "model")
        if arguments.rows:
            print("| rows | whole command, s | first picture to last, s | that a row, ms |\n|---|---|---|---|")
        for rows in arguments.rows:
            found = [growth(rows, scratch) for _ in range(arguments.rounds if rows <= 100_000 else 1)]
            whole, encoding = (median(one[key] for one in found) for key in ("seconds", "encoding"))
            print(f"| {rows:,} | {whole:.1f} | {encoding:.2f} | {1000 * encoding / rows:.3f} |", flush=True)
        if arguments.workers:
            print(f"\n| workers | images/s | of {BATCH / LATENCY_SECONDS:g} a worker |\n|---|---|---|")
        for workers in arguments.workers:
            rate = worker_rate(workers, scratch)
            print(f"| {workers} | {rate:.1f} | {rate / workers / (BATCH / LATENCY_SECONDS):.1%} |", flush=True)


if __name__ == "__main__":
    main()
