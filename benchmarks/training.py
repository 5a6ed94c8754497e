"""Training beside open_clip's own loop: the same model, photographs, batch and cores.

    python -m benchmarks.training [--model ViT-S-32-alt] [--batch 32] [--steps 6] [--output docs/training_speed.md]

Each command is run twice, for some steps and for three times as many; what the longer run takes more is the steady state,
without imports, start-up and publishing. CPU time is that of the command and its children; several workers are processes of
Ray's, of which only the clock is told.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.jpegs import jpeg
from clipmill.core.environment import hardware, software

Line = Callable[[int, Path], list[str]]
"""The command line for so many steps, with a folder of its own to write to."""


@dataclass(frozen=True)
class Rate:
    """Images per second of the clock and of the CPU, in the steady state."""

    per_second: float
    per_cpu_second: float


def write_data(folder: Path, count: int) -> None:
    """The same pictures with a caption each as a list of files and as Parquet."""
    different = [jpeg(seed) for seed in range(64)]
    pictures = [different[n % len(different)] for n in range(count)]
    captions = [f"picture number {n} of a series" for n in range(count)]
    with (folder / "list.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerow(["filepath", "title"])
        for n, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            place = folder / f"{n:05d}.jpg"
            place.write_bytes(picture)
            writer.writerow([place, caption])
    pq.write_table(pa.table({"image": pictures, "caption": captions}), folder / "data.parquet")


def run(line: list[str], threads: int) -> tuple[float, float]:
    """Seconds of the clock and of the CPU that a command takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} failed:\n{done.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rate(line: Line, batch: int, steps: int, threads: int) -> Rate:
    """The steady state of a command."""
    with tempfile.TemporaryDirectory() as folder:
        short = run(line(steps, Path(folder) / "short"), threads)
        long = run(line(3 * steps, Path(folder) / "long"), threads)
    images = 2 * steps * batch
    return Rate(images / (long[0] - short[0]), images / (long[1] - short[1]))


def ours(data: Path, model: str, batch: int, workers: int) -> Line:
    """`clipmill train` with pictures cut as open_clip's loop cuts them."""

    def line(steps: int, folder: Path) -> list[str]:
        options = {"--input": data / "data.parquet", "--output": folder, "--model": model, "--steps": steps}
        options |= {"--batch-size": batch, "--augment": "crop", "--workers": workers, "--negative-share": 0}
        return [
            sys.executable,
            "-m",
            "clipmill_jobs",
            "train",
            *(str(part) for pair in options.items() for part in pair),
        ]

    return line


def theirs(data: Path, model: str, batch: int) -> Line:
    """open_clip's own loop, with pictures read in its own process."""

    def line(steps: int, folder: Path) -> list[str]:
        options = {"--train-data": data / "list.csv", "--dataset-type": "csv", "--model": model, "--logs": folder}
        options |= {"--batch-size": batch, "--epochs": 1, "--workers": 0, "--precision": "fp32", "--device": "cpu"}
        options |= {"--train-num-samples": steps * batch, "--csv-img-key": "filepath", "--csv-caption-key": "title"}
        cut = data / f"list-{steps}.csv"
        cut.write_text("".join((data / "list.csv").read_text().splitlines(keepends=True)[: 1 + steps * batch]))
        options["--train-data"] = cut
        return [sys.executable, "-m", "open_clip_train.main", *(str(part) for pair in options.items() for part in pair)]

    return line


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-S-32-alt")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    model, batch, steps = options.model, options.batch, options.steps
    with tempfile.TemporaryDirectory(prefix="clipmill-training-") as folder:
        data = Path(folder)
        write_data(data, 3 * steps * batch)
        cases = {
            "open_clip's loop, one thread": (theirs(data, model, batch), 1),
            "clipmill, one thread": (ours(data, model, batch, 1), 1),
            "clipmill, two workers of one thread": (ours(data, model, batch, 2), 1),
        }
        found: dict[str, list[Rate]] = {name: [] for name in cases}
        for _ in range(options.rounds):
            for name, (line, threads) in cases.items():
                found[name].append(rate(line, batch, steps, threads))
                print(name, found[name][-1], flush=True)
    text = page(found, model, batch)
    print(text)
    if options.output:
        options.output.write_text(text)


def page(found: dict[str, list[Rate]], model: str, batch: int) -> str:
    """The table: medians, and ratios to the first row."""
    medians = {
        name: Rate(*(sorted(values)[len(values) // 2] for values in _columns(rates))) for name, rates in found.items()
    }
    first = next(iter(medians.values()))
    rows = [
        f"| {name} | {one.per_second:.2f} | {one.per_second / first.per_second:.2f} | "
        + (
            "| |"
            if "workers" in name
            else f"{one.per_cpu_second:.2f} | {one.per_cpu_second / first.per_cpu_second:.2f} |"
        )
        for name, one in medians.items()
    ]
    machine, rounds = hardware(), len(next(iter(found.values())))
    return "\n".join(
        [
            "# How fast training is",
            "",
            f"`python -m benchmarks.training`: {model}, batches of {batch}, float32, JPEGs of 500 × 375 pixels, "
            f"{machine['processor']}, torch {software()['torch']}; medians of {rounds} rounds in turns.",
            "",
            "| | images/s | ratio | images per CPU second | ratio |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _columns(rates: list[Rate]) -> tuple[list[float], list[float]]:
    return [one.per_second for one in rates], [one.per_cpu_second for one in rates]


if __name__ == "__main__":
    main()
