"""Embedding beside its limit and its alternatives, in one run on the same photographs: images per CPU second.

The bare encoder, each stage alone and a plain loop run on one thread in a process of their own; clipmill, a Ray Data script
and clip-retrieval run as whole commands on all cores, start-up included. Programs take turns over ``--rounds``; figures are
medians. Machines are shared, so compare CPU seconds and ratios of one run, not times. The model is ViT-B-32 with random
weights, which computes as much as a trained one, and the built-in model, which is limited by decoding.

    make bench PHOTOGRAPHS=photographs.parquet

clip-retrieval runs in an environment of its own below ``--environments``, made with pip where it is not there.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import date
from pathlib import Path

import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clipmill.encoders.names import BUILTIN_FOLDER
from clipmill.encoders.precision import has_bf16

NAME, BUILT_IN = "ViT-B-32", "built-in"
CLIP_RETRIEVAL = [
    "clip-retrieval==2.45.0",
    "numpy==1.26.4",
    "pyarrow==15.0.2",
    "setuptools==81.0.0",
    "open-clip-torch==2.32.0",
    "transformers==4.57.6",
    "sentence-transformers==2.7.0",
    "webdataset==0.2.111",
    "torch==2.14.1",
    "torchvision==0.29.1",
]
_HERE = Path(__file__).parent
_BUILTIN = BUILTIN_FOLDER
_SAMPLE_SECONDS = 0.2
_MARK = "<!-- written by make bench -->"
"""What follows it in the output is replaced; what is above is kept."""

Figures = dict[tuple[str, str], list[float]]
"""(program, figure) to one value a round."""


def write_model(folder: Path) -> None:
    """ViT-B-32 with random weights in open_clip's local-dir layout."""
    folder.mkdir()
    torch.manual_seed(0)
    network = open_clip.create_model(NAME, load_weights=False)
    preprocessing = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": open_clip.get_model_config(NAME), "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(network.state_dict(), folder / "open_clip_pytorch_model.bin")


def write_photographs(source: Path, folder: Path, count: int) -> None:
    """The first pictures as a column of bytes without captions, repeated where there are too few, and as JPEG files."""
    table = pq.read_table(source, columns=["image"]).column("image").to_pylist()
    data = [value["bytes"] if isinstance(value, dict) else value for value in table]
    data = [data[number % len(data)] for number in range(count)]
    pq.write_table(pa.table({"image": pa.array(data, pa.binary())}), folder / "photographs.parquet", row_group_size=250)
    (folder / "files").mkdir()
    for number, encoded in enumerate(data):
        (folder / "files" / f"{number:06d}.jpg").write_bytes(encoded)


def run_command(command: list[str], log: Path) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of the command and all it starts, sampled while they live."""
    spent: dict[tuple[int, int], int] = {}
    started = time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        while process.poll() is None:
            spent.update(_ticks_below(process.pid))
            time.sleep(_SAMPLE_SECONDS)
    wall = time.perf_counter() - started
    if process.returncode:
        tail = " ".join(log.read_text(errors="replace").split())[-300:]
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {tail}")
    return wall, sum(spent.values()) / os.sysconf("SC_CLK_TCK")


def _ticks_below(process: int) -> dict[tuple[int, int], int]:
    """Clock ticks of CPU by (process, its start) of a process and all below it that live now."""
    parents: dict[int, int] = {}
    ticks: dict[int, tuple[int, int]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            values = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(values[1])
        ticks[int(folder.name)] = int(values[19]), int(values[11]) + int(values[12])
    found: dict[tuple[int, int], int] = {}
    for one, (start, used) in ticks.items():
        above = one
        while above not in (process, 0, 1):
            above = parents.get(above, 0)
        if above == process:
            found[one, start] = used
    return found


def run_part(part: str, source: Path, model: str, precision: str, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.throughput_parts", part, str(source), model, precision, str(count)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(run.stdout.strip().splitlines()[-1])
    return found


def clipmill(scratch: Path, model: str, precision: str) -> tuple[list[str], Path]:
    output = scratch / f"clipmill-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "clipmill_jobs", "embed", "--input", str(scratch / "photographs.parquet")]
    command += ["--output", str(output), "--precision", precision]
    return command + ([] if model == "builtin" else ["--pretrained", f"local-dir:{model}"]), output


def clip_retrieval(environments: Path, scratch: Path, model: str) -> list[str]:
    environment = environments / "clip-retrieval"
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *CLIP_RETRIEVAL], check=True, capture_output=True)
    return [
        str(environment / "bin" / "clip-retrieval"),
        "inference",
        f"--input_dataset={scratch / 'files'}",
        f"--output_folder={scratch / f'clip-retrieval-{time.monotonic_ns()}'}",
        "--enable_text=False",
        "--use_jit=False",
        f"--num_prepro_workers={len(os.sched_getaffinity(0))}",
        f"--clip_model=open_clip:{NAME}/{model}/open_clip_pytorch_model.bin",
    ]


def one_round(arguments: argparse.Namespace, scratch: Path, model: str, name: str, figures: Figures) -> None:
    """Every program once on one model."""
    source, count = scratch / "photographs.parquet", arguments.images
    precisions = [p for p in arguments.precisions.split(",") if model != "builtin" or p == "fp32"]

    def note(program: str, values: dict[str, float]) -> None:
        for figure, value in values.items():
            figures[f"{name}, {program}", figure].append(value)
            print(f"{name}, {program}, {figure}: {value:.2f}", file=sys.stderr, flush=True)

    def whole(program: str, command: list[str], images: int) -> None:
        wall, cpu = run_command(command, scratch / "log")
        note(program, {"images/CPU s, whole command": images / cpu, "images/s": images / wall})

    for precision in precisions:
        note(f"bare encoder {precision}", run_part("bare", source, model, precision, min(count, arguments.bare)))
        command, output = clipmill(scratch, model, precision)
        whole(f"clipmill {precision}", command, count)
        manifest = json.loads((output / "manifest.json").read_text())
        steady = {"steady images/CPU s": manifest["throughput"]["images_per_cpu_second"]}
        steady["encoders busy"] = manifest["runs"][-1]["encoder_busy"]
        if manifest["parity"]:
            steady["minimum cosine"] = manifest["parity"]["minimum_cosine"]
        note(f"clipmill {precision}", steady)
    note("stages", run_part("stages", source, model, "fp32", min(count, arguments.bare)))
    note("plain loop", run_part("loop", source, model, "fp32", min(count, arguments.bare)))
    folder = str(_BUILTIN) if model == "builtin" else model
    script = [sys.executable, str(_HERE / "throughput_ray_data.py"), str(source), folder]
    whole("Ray Data script", [*script, str(scratch / f"ray-{time.monotonic_ns()}")], count)
    if arguments.peers and model != "builtin":
        whole("clip-retrieval 2.45.0", clip_retrieval(arguments.environments, scratch, model), count)


def table(figures: Figures) -> list[str]:
    lines = ["| program | figure | median | least to greatest |", "|---|---|---|---|"]
    for (program, figure), values in figures.items():
        median = statistics.median(values)
        spread = f"{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else "one round"
        lines.append(f"| {program} | {figure} | {median:.4g} | {spread} |")
    return lines


def ratios(figures: Figures) -> list[str]:
    """What is promised, as ratios of medians of this run."""
    middle = {key: statistics.median(values) for key, values in figures.items()}
    steady, whole, second = "steady images/CPU s", "images/CPU s, whole command", "images/s"
    wanted: list[tuple[str, tuple[str, str], tuple[str, str], float]] = []
    retrieval = f"{NAME}, clip-retrieval 2.45.0"
    for precision in ("fp32", "int8", "bf16"):
        ours, bare = f"{NAME}, clipmill {precision}", (f"{NAME}, bare encoder {precision}", "bare")
        wanted.append((f"{ours}: of the bare encoder, steady", (ours, steady), bare, 0.95))
        bar = 1.7 if precision == "fp32" else 2.2
        wanted.append((f"{ours}: times clip-retrieval, images/s", (ours, second), (retrieval, second), bar))
        wanted.append((f"{ours}: times clip-retrieval, images/CPU s", (ours, whole), (retrieval, whole), bar))
    for name in (NAME, BUILT_IN):
        ours, script = f"{name}, clipmill fp32", f"{name}, Ray Data script"
        wanted.append((f"{ours}: times the Ray Data script, images/s", (ours, second), (script, second), 2.0))
        wanted.append((f"{ours}: times the Ray Data script, images/CPU s", (ours, whole), (script, whole), 2.0))
    ours, stages = f"{BUILT_IN}, clipmill fp32", f"{BUILT_IN}, stages"
    wanted.append((f"{ours}: of its stages one after the other, steady", (ours, steady), (stages, "all stages"), 0.9))
    captions = f"{NAME}, captions"
    wanted.append((f"{captions}: times all at 77 tokens", (captions, "cut"), (captions, "whole"), 3.0))
    lines = ["| ratio | measured | wanted |", "|---|---|---|"]
    for text, above, below, bar in wanted:
        if above in middle and below in middle:
            lines.append(f"| {text} | {middle[above] / middle[below]:.2f} | ≥ {bar:g} |")
    return lines


def machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    bf16 = "with" if has_bf16(torch.device("cpu")) else "without"
    cpu = names[0].split(":")[1].strip() if names else platform.processor()
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {cpu}, {bf16} bf16, no GPU; {date.today():%d %B %Y}; torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, help="Parquet with a column `image`")
    parser.add_argument("--images", type=int, default=2000, help="of a whole command")
    parser.add_argument("--bare", type=int, default=512, help="images at most of the bare encoder, a stage, the loop")
    parser.add_argument("--captions", type=int, default=1000, help="from the column `caption`; 0: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", default="fp32,int8,bf16" if has_bf16(torch.device("cpu")) else "fp32,int8")
    parser.add_argument("--models", default=f"{NAME},{BUILT_IN}")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="clip-retrieval too")
    parser.add_argument("--environments", type=Path, default=Path("out/venvs"), help="where peers are installed")
    parser.add_argument("--output", type=Path, help="a file for the tables, which are printed as well")
    arguments = parser.parse_args()
    figures: Figures = defaultdict(list)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        write_model(scratch / "model")
        write_photographs(arguments.photographs, scratch, arguments.images)
        for _ in range(arguments.rounds):
            for name in arguments.models.split(","):
                model = "builtin" if name == BUILT_IN else str(scratch / "model")
                one_round(arguments, scratch, model, name, figures)
                if arguments.captions:
                    found = run_part("captions", arguments.photographs, model, "fp32", arguments.captions)
                    for figure, value in found.items():
                        figures[f"{name}, captions", figure].append(value)
    loads = f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after"
    about = f"{machine()}. {arguments.images} images, {arguments.rounds} rounds; {loads}."
    text = "\n".join([about, "", *table(figures), "", *ratios(figures)])
    print(text)
    if arguments.output:
        before = arguments.output.read_text().split(_MARK)[0] if arguments.output.exists() else ""
        arguments.output.write_text(f"{before}{_MARK}\n\n{text}\n")


if __name__ == "__main__":
    main()
