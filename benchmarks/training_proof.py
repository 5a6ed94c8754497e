"""What training reaches on photographs: captions from scratch, and fine-tuning beside a linear probe.

    python -m benchmarks.training_proof [--data ../shared/data] [--work out/proof] [--output docs/training_proof.md]

Flickr8k's 6,000 photographs teach a network of the built-in architecture, from fresh weights, to find the 1,000 held-out
ones by caption. The clothing photographs then fine-tune it to name ten kinds of clothes, beside a linear probe on its
vectors from before. An hour on two cores; what is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from clipmill.core.environment import hardware

SCRATCH = {"steps": 1200, "batch_size": 256, "learning_rate": 5e-4, "warmup_steps": 200, "augment": "crop,flip"}
TUNED = {"steps": 500, "batch_size": 128, "learning_rate": 3e-4, "warmup_steps": 50, "augment": "crop,flip"}
ALL = {"negative_share": 0, "validate_every": 250}


def clipmill(command: str, output: Path, **options: Any) -> float:
    """One command, unless its output is there; seconds that it took."""
    line = [sys.executable, "-m", "clipmill_jobs", command, "--output", str(output)]
    line += [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    print(" ".join(line[2:]), flush=True)
    began = time.perf_counter()
    done = subprocess.run(line, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, check=False)
    if done.returncode:
        raise SystemExit(f"clipmill {command} ended with {done.returncode}")
    return time.perf_counter() - began


def scratch(data: Path, work: Path) -> dict[str, Any]:
    """Flickr8k from fresh weights: the last validation, over all held-out photographs, and the minutes of training."""
    held_out = next(data.glob("flickr8k/validation-*.parquet"))
    clipmill("train", work / "flickr8k", input=data / "flickr8k/train-*.parquet", validation=held_out, **SCRATCH, **ALL)
    record = json.loads((work / "flickr8k/training.json").read_text())
    return {**record["validations"][-1], "minutes": record["seconds"] / 60}


def tuned(data: Path, work: Path) -> dict[str, Any]:
    """Clothing, started from what `scratch` made: acc1 of the probe before and of the tuned model, as reports say them."""
    train, held_out = data / "clothing/train.parquet", data / "clothing/validation.parquet"
    start, labels = work / "flickr8k", {"label_column": "label"}
    clipmill("train", work / "clothing", input=train, validation=held_out, pretrained=start, **labels, **TUNED, **ALL)
    found: dict[str, Any] = {}
    for name, model in (("before", start), ("after", work / "clothing")):
        for part, source in (("train", train), ("test", held_out)):
            clipmill("embed", work / f"{name}-{part}", input=source, pretrained=model)
        vectors = {"embeddings": work / f"{name}-test", "probe_train": work / f"{name}-train"}
        clipmill("evaluate", work / f"{name}-report", **vectors, **labels)
        report = json.loads((work / f"{name}-report/report.json").read_text())
        found[name] = {
            "zero-shot": figure(report, "zero_shot", "acc1"),
            "linear probe": figure(report, "probe", "linear_probe_acc1"),
        }
    return found


def figure(report: Any, part: str, name: str) -> dict[str, float]:
    """A figure of a report, wherever in a part it stands: value, low, high."""
    waiting = [report[part]]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            if str(here.get("key", "")).endswith(f".{name}"):
                return {"value": here["value"], "low": here["low"], "high": here["high"]}
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here
    raise SystemExit(f"the report has no {part}.{name}")


def page(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Both as a page."""
    machine = hardware()
    rows = [
        f"| {name} | {which} | {one['value']:.3f} ({one['low']:.3f}–{one['high']:.3f}) |"
        for name, figures in second.items()
        for which, one in figures.items()
    ]
    return "\n".join(
        [
            "# What training reaches on photographs",
            "",
            f"`python -m benchmarks.training_proof`, {date.today():%-d %B %Y}, {machine['processor']}, "
            f"{machine['cores']} cores.",
            "",
            f"**From scratch.** The built-in architecture at 64 pixels, {SCRATCH['steps']} steps of {SCRATCH['batch_size']} on "
            f"Flickr8k's 6,000 photographs, {first['minutes']:.0f} minutes: over the {first['images']:,} held-out ones "
            f"t2i R@1 {first['t2i_r@1']:.3f}, R@5 {first['t2i_r@5']:.3f}, R@10 {first['t2i_r@10']:.3f} "
            f"({first['t2i_r@10'] * first['images'] / 10:.1f} times chance), i2t R@10 {first['i2t_r@10']:.3f}.",
            "",
            "**Fine-tuned.** That model on 3,068 photographs of clothes in ten classes, tested on 341 others:",
            "",
            "| model | classifier | acc1 (95%) |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Trains, measures and prints the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("out/proof"))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    text = page(scratch(options.data, options.work), tuned(options.data, options.work))
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
