"""Kills the driver, a worker or a whole node at random instants of embed and index, and compares what comes out.

    python tests/chaos.py --kills 20

A cluster of three nodes on this machine (a head without CPUs and two nodes with one each) embeds and indexes the same
scenes again and again. At random instants something is killed with SIGKILL; a lost node is replaced, as an autoscaler
would, and a command that ended is started again, as a user would. Every round must end with the same rows exactly once
and the same vectors, within float16 rounding, as a round that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from ray.cluster_utils import Cluster

from processes import descendants

TARGETS = ("driver", "worker", "node")
_MOST_STARTS = 8
_WORKERS = (
    "ray::MapWorker",
    "ray::MapBatches",
    "ray::ReadU",
    "ray::SliceDriver",
    "ray::_make",
    "ray::_fill",
    "ray::_train",
)


class Nodes:
    """A head without CPUs and two nodes with one each; a node that is killed is replaced at once."""

    def __init__(self) -> None:
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(2)]

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def kill_one(self, chance: random.Random) -> None:
        """Kills a node with all that runs on it."""
        lost = self._nodes.pop(chance.randrange(len(self._nodes)))
        self._cluster.remove_node(lost, allow_graceful=False)
        self._nodes.append(self._cluster.add_node(num_cpus=1))

    def close(self) -> None:
        """Stops all nodes."""
        self._cluster.shutdown()


@dataclass
class Round:
    """What one way through embed and index took, and how it differs from the undisturbed one."""

    kills: list[str] = field(default_factory=list)
    starts: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)


def clipmill(*arguments: object) -> subprocess.Popen[str]:
    """A command in a process group of its own."""
    command = [sys.executable, "-m", "clipmill_jobs", *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def commands(source: Path, output: Path, nodes: Nodes, drivers: int) -> list[tuple[object, ...]]:
    """Both stages: embedding in so many slices at a time; an index of several shards that is trained and searched by lists."""
    cluster = ("--address", nodes.address, "--stall-timeout", 120)
    index = ("--factory", "IVF16,PQ16x4fsr", "--shards", 4, "--tuning-queries", 200)
    return [
        ("embed", "--input", source, "--output", output / "embeddings", "--drivers", drivers, *cluster),
        ("index", "--embeddings", output / "embeddings", "--output", output / "index", *index, *cluster),
    ]


def go_round(source: Path, output: Path, nodes: Nodes, kills: list[str], chance: random.Random, span: float) -> Round:
    """One way through both stages with these kills, each at a random instant within ``span`` seconds of the last."""
    made = Round()
    began = time.monotonic()
    next_kill = time.monotonic() + chance.uniform(0.1, span)
    for command in commands(source, output, nodes, drivers=chance.randrange(1, 3)):
        for _ in range(_MOST_STARTS):
            made.starts += 1
            run = clipmill(*command)
            while run.poll() is None:
                time.sleep(0.1)
                if kills and time.monotonic() >= next_kill:
                    target = kills.pop(0)
                    if strike(target, run, nodes, chance):
                        made.kills.append(f"{target} in {command[0]}")
                    else:
                        kills.insert(0, target)
                    next_kill = time.monotonic() + chance.uniform(0.1, span)
            _, err = run.communicate()
            if "Traceback" in err:
                made.differences.append(f"{command[0]} ended with a traceback: {err[-2000:]}")
            if run.returncode == 0:
                break
            if run.returncode > 0:
                made.failures.append(err.strip().splitlines()[-1])
        else:
            made.differences.append(f"{command[0]} did not end well after {_MOST_STARTS} starts: {err[-500:]}")
            return made
    made.seconds = time.monotonic() - began
    return made


def strike(target: str, run: subprocess.Popen[str], nodes: Nodes, chance: random.Random) -> bool:
    """Whether there was something of that kind to kill."""
    if target == "driver":
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    elif target == "node":
        nodes.kill_one(chance)
    else:
        workers = [pid for title in _WORKERS for pid in descendants(title)]
        if not workers:
            return False
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
    return True


def differences(undisturbed: Path, other: Path) -> list[str]:
    """In words, how the outputs of two rounds differ: rows, captions, vectors, files that verify finds fault with."""
    found = []
    for part, keys in (("images", ["row"]), ("captions", ["row", "caption_index"]), ("rejected", ["row"])):
        tables = [pq.read_table(place / "embeddings" / part) for place in (undisturbed, other)]
        left, right = (table.select(keys).to_pylist() for table in tables)
        if left != right:
            found.append(f"{part}: {len(right)} rows and not the {len(left)} of the undisturbed run, in order")
        elif part != "rejected":
            a, b = (np.stack(table.column("embedding").to_numpy()).astype(np.float32) for table in tables)
            furthest = float(np.abs(a - b).max(initial=0))
            if furthest > 2e-3:
                found.append(f"{part}: vectors differ by up to {furthest}")
    left, right = (
        np.concatenate([np.load(file) for file in sorted((place / "index").glob("rows-*.npy"))])
        for place in (undisturbed, other)
    )
    if not np.array_equal(left, right):
        found.append("index: positions are other rows")
    for name in ("embeddings", "index"):
        verified = clipmill("verify", other / name)
        out, err = verified.communicate()
        if verified.returncode:
            found.append(f"verify {name}: {out}{err}")
    leftovers = sorted(path.name for path in other.iterdir() if path.name not in ("embeddings", "index"))
    return found + [f"left behind: {name}" for name in leftovers]


def wreak(kills: int, rows: int, scratch: Path, seed: int) -> tuple[Round, list[Round]]:
    """The undisturbed round, and as many disturbed ones as it takes for so many kills."""
    source = scratch / "scenes"
    made = clipmill("sample", "--output", source, "--rows", rows, "--seed", seed)
    made.communicate()
    chance = random.Random(seed)
    targets = [TARGETS[number % len(TARGETS)] for number in range(kills)]
    chance.shuffle(targets)
    nodes = Nodes()
    try:
        (scratch / "undisturbed").mkdir()
        calm = go_round(source, scratch / "undisturbed", nodes, [], chance, 1.0)
        rounds: list[Round] = []
        while targets:
            output = scratch / f"round-{len(rounds)}"
            output.mkdir()
            disturbed = go_round(source, output, nodes, targets, chance, calm.seconds / 2)
            disturbed.differences += differences(scratch / "undisturbed", output)
            rounds.append(disturbed)
            print(json.dumps(vars(disturbed)), file=sys.stderr, flush=True)
    finally:
        nodes.close()
    return calm, rounds


def halve(units: int, scratch: Path) -> dict[str, int]:
    """Kills an embed run when half of its units are in, and starts it again: what the two runs encoded.

    Row groups are a little larger than half a unit, so each makes one.
    """
    rows_a_unit = 513
    clipmill("sample", "--output", scratch / "drawn", "--rows", units * rows_a_unit).communicate()
    source, output = scratch / "many.parquet", scratch / "halved"
    pq.write_table(
        pq.read_table(sorted((scratch / "drawn").glob("*.parquet")), columns=["image", "id"]),
        source,
        row_group_size=rows_a_unit,
    )
    command = ("embed", "--input", source, "--output", output, "--json")
    run = clipmill(*command)
    while run.poll() is None and committed(scratch / ".halved.staging") < units / 2:
        time.sleep(0.2)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    out, err = clipmill(*command).communicate()
    if not out:
        raise RuntimeError(err)
    first, second = json.loads(out)["runs"]
    return {
        "rows": units * rows_a_unit,
        "units": units,
        "first run": first["rows_encoded"],
        "second run": second["rows_encoded"],
    }


def committed(staging: Path) -> int:
    """Units that are in, whether their shard was made already or not."""
    made = {int(record.stem) for record in staging.glob("*/shards/*.json")}
    waiting = [unit for unit in staging.glob("*/units/*/*.arrow") if int(unit.parent.name) not in made]
    return len(waiting) + len(made) * (131_072 // 513)


def page(calm: Round, rounds: list[Round], arguments: dict[str, Any]) -> str:
    """The result as Markdown."""
    kills = [kill for one in rounds for kill in one.kills]
    lines = [
        f"{len(kills)} kills in {len(rounds)} rounds of embed and index over {arguments['rows']:,} scenes "
        f"(seed {arguments['seed']}); undisturbed, a round takes {calm.seconds:.0f} s.",
        "",
        "| round | killed | commands started | of these, ended by themselves | seconds | differs from the undisturbed round |",
        "|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(rounds):
        what = ", ".join(one.kills) or "nothing"
        cells = (
            number + 1,
            what,
            one.starts,
            len(one.failures),
            f"{one.seconds:.0f}",
            "; ".join(one.differences) or "no",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--units", type=int, default=100, help="of the run that is killed half-way; 0 leaves it out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clipmill-chaos-") as scratch:
        calm, rounds = wreak(arguments.kills, arguments.rows, Path(scratch), arguments.seed)
        halved = halve(arguments.units, Path(scratch)) if arguments.units else {}
    print(page(calm, rounds, vars(arguments)))
    if halved:
        share = halved["second run"] / halved["rows"]
        print(
            f"\nKilled with half of {halved['units']} units in: the first run had encoded {halved['first run']:,} of "
            f"{halved['rows']:,} rows, the second encoded {halved['second run']:,} ({share:.1%})."
        )
    return int(any(one.differences for one in rounds) or (bool(halved) and share > 0.55))


if __name__ == "__main__":
    sys.exit(main())
