"""Kills `clipmill train` at random instants, and compares the weights with those of a run that nobody disturbed.

    python tests/train_kills.py --kills 20 [--workers 2]

The command is started again after each kill, until it is done. The weights must be the same bit for bit, with the same
number of workers and threads. With several workers, every other kill takes one of them and not the whole command.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

from processes import descendants

STEPS = 60
TRAINS = "ray::RayTrainWorker"


def command(data: Path, output: Path, workers: int) -> list[str]:
    """A short run with all that a checkpoint has to hold: an average, statistics of batches, altered pictures."""
    options = {"--input": data, "--output": output, "--steps": STEPS, "--batch-size": 16, "--warmup-steps": 5}
    options |= {"--augment": "crop,colour", "--average": 0.9, "--checkpoint-every": 3, "--workers": workers}
    return [sys.executable, "-m", "clipmill_jobs", "train", *(str(part) for pair in options.items() for part in pair)]


def start(line: list[str]) -> subprocess.Popen[str]:
    """The command in a process group of its own, with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def strike(run: subprocess.Popen[str], whole: bool, chance: random.Random) -> bool:
    """Kills the command, or one of its workers where there are some; whether anything was killed."""
    if whole:
        os.killpg(run.pid, signal.SIGKILL)
        return True
    found = descendants(TRAINS, run.pid)
    if found:
        os.kill(chance.choice(found), signal.SIGKILL)
    return bool(found)


def disturbed(line: list[str], kills: int, span: float, workers: int, chance: random.Random) -> tuple[int, int]:
    """Runs the command to its end with up to so many kills, each at most ``span`` seconds after the last; returns kills
    and starts."""
    struck = starts = 0
    while True:
        starts += 1
        run = start(line)
        due = time.monotonic() + chance.uniform(0, span)
        while run.poll() is None:
            time.sleep(0.02)
            if struck < kills and time.monotonic() >= due:
                struck += strike(run, workers == 1 or struck % 2 == 0, chance)
                due = time.monotonic() + chance.uniform(0, span)
        said = run.communicate()[1]
        if run.returncode == 0:
            return struck, starts
        if run.returncode > 0:
            raise SystemExit(f"the command failed: {said[-1000:]}")


def main() -> int:
    """Kills and compares; 1 where weights differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="clipmill-kills-") as folder:
        root = Path(folder)
        sample = ["sample", "--output", str(root / "scenes"), "--rows", "200", "--split", "train", "--image-size", "64"]
        subprocess.run([sys.executable, "-m", "clipmill_jobs", *sample], check=True, capture_output=True)
        began = time.monotonic()
        quiet = start(command(root / "scenes", root / "quiet", options.workers))
        said = quiet.communicate()[1]
        if quiet.returncode:
            raise SystemExit(f"the undisturbed run failed: {said[-1000:]}")
        span = time.monotonic() - began
        expected = load_file(root / "quiet" / "open_clip_model.safetensors")
        killed, different, rounds = 0, [], 0
        while killed < options.kills:
            output = root / f"round-{rounds}"
            line = command(root / "scenes", output, options.workers)
            struck, starts = disturbed(line, min(3, options.kills - killed), span, options.workers, chance)
            found = load_file(output / "open_clip_model.safetensors")
            wrong = [name for name in expected if not (found[name] == expected[name]).all()]
            different += [f"round {rounds}: {name}" for name in wrong]
            killed, rounds = killed + struck, rounds + 1
            print(f"round {rounds}: {struck} kills, {starts} starts, {len(wrong)} weights differ", flush=True)
    print(f"{killed} kills in {rounds} rounds with {options.workers} workers: {len(different)} weights differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
