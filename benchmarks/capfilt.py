"""What CapFilt is worth: a CLIP model trained on captions of which many are wrong, and on what `recaption` makes of them.

    python -m benchmarks.capfilt [--captioner MODEL] [--rows 4000] [--steps 200] [--seeds 3] [--work out/capfilt]
                                 [--output docs/capfilt.md]

Rendered scenes have two in five captions exchanged for those of other scenes. ``--captioner``, or the built-in model that
writes, writes a text about each, the built-in CLIP model filters captions and texts, and for each seed a fresh network of the
built-in architecture learns from the noisy and from the filtered captions for as many steps; both are measured on held-out
scenes. What is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipmill.core.environment import hardware

EXCHANGED = 0.4
TRAINED = {"batch_size": 128, "learning_rate": 1e-3, "warmup_steps": 50, "negative_share": 0}


def clipmill(command: str, output: Path, **options: Any) -> None:
    """One command, unless its output is there."""
    line = [sys.executable, "-m", "clipmill_jobs", command, "--output", str(output)]
    line += [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    print(" ".join(line[2:]), flush=True)
    done = subprocess.run(line, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, check=False)
    if done.returncode:
        raise SystemExit(f"clipmill {command} ended with {done.returncode}")


def exchange(scenes: Path, noisy: Path) -> None:
    """The scenes with some captions exchanged for those of other scenes, and what is true of each in ``true_captions``."""
    if noisy.exists():
        return
    noisy.mkdir(parents=True)
    table = pa.concat_tables([pq.read_table(file) for file in sorted(scenes.glob("*.parquet"))])
    true, random = table.column("caption").to_pylist(), np.random.default_rng(0)
    given = [[_other(true, random) if random.random() < EXCHANGED else text for text in texts] for texts in true]
    at = table.column_names.index("caption")
    table = table.set_column(at, "caption", pa.array(given)).append_column("true_captions", pa.array(true))
    table = table.drop_columns(["negative_caption", "teaching_caption"])  # which would teach what is true
    pq.write_table(table, noisy / "part-00000.parquet", row_group_size=500)


def _other(true: list[list[str]], random: np.random.Generator) -> str:
    texts = true[random.integers(len(true))]
    return texts[random.integers(len(texts))]


def kept(noisy: Path, captioned: Path) -> dict[str, float]:
    """The share of captions that are kept which are right, and of right ones which are kept; before that, how many were."""
    before = pq.read_table(noisy / "part-00000.parquet", columns=["caption", "true_captions"]).to_pylist()
    columns = ["caption", "caption_source"]
    after = [
        row
        for file in sorted(captioned.glob("captioned/*.parquet"))
        for row in pq.read_table(file, columns=columns).to_pylist()
    ]
    right = [text in row["true_captions"] for row in before for text in row["caption"]]
    found = [
        text in row["true_captions"]
        for row, made in zip(before, after, strict=True)
        for text, source in zip(made["caption"], made["caption_source"], strict=True)
        if source == "original"
    ]
    return {
        "right before": float(np.mean(right)),
        "right of those kept": float(np.mean(found)),
        "right ones that are kept": sum(found) / sum(right),
    }


def recall(model: Path) -> float:
    """t2i R@1 of the last validation."""
    return float(json.loads((model / "training.json").read_text())["validations"][-1]["t2i_r@1"])


def main() -> None:
    """Everything, and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captioner")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("out/capfilt"))
    parser.add_argument("--output", type=Path, default=Path("docs/capfilt.md"))
    given = parser.parse_args()
    work, noisy = given.work, given.work / "noisy"
    clipmill("sample", work / "scenes", rows=given.rows, split="held-out", seed=1)
    clipmill("sample", work / "held-out", rows=1000, split="held-out", seed=2)
    exchange(work / "scenes", noisy)
    clipmill("caption", work / "texts", input=noisy, **({"model": given.captioner} if given.captioner else {}))
    clipmill("recaption", work / "captioned", input=noisy, texts=work / "texts")
    shares = kept(noisy, work / "captioned")
    rows = []
    for seed in range(given.seeds):
        found = []
        for name in ("noisy", "captioned"):
            model = work / f"{name}-{seed}"
            options = {"caption_column": "caption", "validation": work / "held-out", "steps": given.steps, "seed": seed}
            clipmill("train", model, input=work / name, **options, **TRAINED)
            found.append(recall(model))
        rows.append(found)
    given.output.write_text(page(given, shares, rows))
    print(given.output.read_text())


def page(given: argparse.Namespace, shares: dict[str, float], rows: list[list[float]]) -> str:
    """What was found, for the documentation."""
    machine = ", ".join(map(str, hardware().values()))
    lines = [
        "# Captions made better, measured",
        "",
        f"`python -m benchmarks.capfilt`, {given.rows:,} rendered scenes, {given.steps:,} steps of {TRAINED['batch_size']}; "
        f"{machine}.",
        "",
        "| captions | share |",
        "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in shares.items()),
        "",
        "| seed | t2i R@1 learnt from noisy captions | from what `recaption` keeps |",
        "|---|---|---|",
        *(f"| {seed} | {noisy:.3f} | {better:.3f} |" for seed, (noisy, better) in enumerate(rows)),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
