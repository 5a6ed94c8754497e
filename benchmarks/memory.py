"""Whether memory stays flat as the input grows: peak memory of the driver and of each kind of worker, for several sizes.

Small pictures and an untrained model of a few thousand weights, so that a million rows take minutes. What is counted is
a process's own memory (anonymous and mapped files, `RssAnon + RssFile` of Linux), without the object store that all share.

    python -m benchmarks.memory --rows 10000 --rows 1000000
"""

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

CONFIG = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
KINDS = {
    "ray::ReadUnitSource": "read task",
    "ray::MapBatches(decode_block": "decode task",
    "ray::MapWorker": "encoder",
    "ray::Write": "write task",
    "ray::compact_shard": "shard task",
    "ray::IDLE": "idle worker",
}
_SAMPLE_SECONDS = 0.5
_PART_ROWS = 100_000


def write_model(folder: Path) -> None:
    """A tiny untrained model in open_clip's local-dir layout."""
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    network = open_clip.CLIP(**CONFIG["model_cfg"])
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "open_clip_model.safetensors")


def write_input(folder: Path, rows: int, row_group_size: int = 10_000) -> None:
    """Pictures of noise, 64 different ones, each with a caption."""
    folder.mkdir()
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(64):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    for part, start in enumerate(range(0, rows, _PART_ROWS)):
        numbers = range(start, min(start + _PART_ROWS, rows))
        table = pa.table(
            {"image": [pictures[n % 64] for n in numbers], "caption": [f"noise {n % 1000}" for n in numbers]}
        )
        pq.write_table(table, folder / f"{part:05d}.parquet", row_group_size=row_group_size)


def own_memory(process: int) -> int:
    """Bytes of a process that are not shared memory; 0 when it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return sum(int(size) for size in re.findall(r"^(?:RssAnon|RssFile):\s+(\d+) kB", status, re.M)) * 1024


def workers_below(process: int) -> dict[int, str]:
    """Ray's worker processes below a process, with what each is doing."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in listed.splitlines()[1:]]
    parents = {int(pid): int(parent) for pid, parent, _ in lines}

    def below(pid: int) -> bool:
        while pid in parents and pid != process:
            pid = parents[pid]
        return pid == process

    return {int(pid): title for pid, _, title in lines if title.startswith("ray::") and below(int(pid))}


def measure(rows: int, scratch: Path) -> dict[str, float]:
    """Peak MB by kind of process, and rows per second, of one embed run."""
    write_input(scratch / f"input-{rows}", rows)
    arguments = ["--input", f"{scratch}/input-{rows}", "--output", f"{scratch}/out-{rows}"]
    command = [sys.executable, "-m", "clipmill_jobs", "embed", *arguments, "--model", f"local-dir:{scratch}/model"]
    began = time.monotonic()
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    peaks: dict[str, float] = defaultdict(float)
    while run.poll() is None:
        peaks["driver"] = max(peaks["driver"], own_memory(run.pid) / 1e6)
        for pid, title in workers_below(run.pid).items():
            kind = next((kind for start, kind in KINDS.items() if title.startswith(start)), None)
            if kind:
                peaks[kind] = max(peaks[kind], own_memory(pid) / 1e6)
        time.sleep(_SAMPLE_SECONDS)
    if run.returncode:
        raise RuntimeError(f"clipmill embed ended with {run.returncode}")
    return {**peaks, "rows per second": rows / (time.monotonic() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append")
    sizes = parser.parse_args().rows or [10_000, 1_000_000]
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch) / "model")
        results = [measure(rows, Path(scratch)) for rows in sizes]
    print("| peak memory in MB | " + " | ".join(f"{rows:,} rows" for rows in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    for kind in sorted(set().union(*results)):
        print(f"| {kind} | " + " | ".join(f"{result.get(kind, 0):,.0f}" for result in results) + " |")


if __name__ == "__main__":
    main()
