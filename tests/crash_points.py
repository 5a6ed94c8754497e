"""Ends every writing command at every change it makes to the disk and runs it again; and runs two at once.

    python tests/crash_points.py --output docs/crash_points.md
    python tests/crash_points.py --pairs

A change is a file opened for writing, renamed, linked or deleted, or a folder made or deleted: the command ends right before
it, as if the machine had lost power. The same command then has to complete, `clipmill verify` to find nothing, and nothing to
lie beside the output that a run which nobody disturbed does not leave. Commands run in forks of this process, without Ray.

With ``--pairs`` the command stops before each change instead, the same command runs beside it, and then it goes on: one of
the two makes the dataset, the other is refused or finds it complete, and nothing is lost.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from forked import DIED, run_forked, start

_PATIENCE = 5.0
PICTURES = 6


@dataclass(frozen=True)
class Scenario:
    """A command that writes, in a folder that ``prepare`` filled. ``proof`` are commands that must succeed in the end."""

    name: str
    command: tuple[str, ...]
    prepare: tuple[tuple[str, ...], ...] = ()
    proof: tuple[tuple[str, ...], ...] = (("verify", "{out}"),)


_EMBED = ("embed", "--input", "in", "--output", "e")
SCENARIOS = (
    Scenario("import csv", ("import", "csv", "captions.csv", "--output", "{out}")),
    Scenario("import vectors", ("import", "vectors", "--images", "v.npy", "--texts", "v.npy", "--output", "{out}")),
    Scenario("sample", ("sample", "--rows", "5", "--output", "{out}")),
    Scenario("embed", ("embed", "--input", "in", "--output", "{out}")),
    Scenario("index", ("index", "--embeddings", "e", "--output", "{out}"), (_EMBED,)),
    Scenario("dedup", ("dedup", "--embeddings", "e", "--output", "{out}"), (_EMBED,)),
    Scenario("filter", ("filter", "--embeddings", "e", "--where", "width > 1", "--output", "{out}"), (_EMBED,)),
    Scenario("evaluate", ("evaluate", "--embeddings", "e", "--templates", "plain", "--output", "{out}"), (_EMBED,)),
)
"""Each is also run with ``--overwrite`` over what it made before."""
_RUN = ("run", "run.yaml")
_MORE = ("sample", "--rows", "4", "--output", "in/more")
_VERIFY = ("verify", "out")
_REMOVED = (_RUN, ("prune", "out", "--keep", "1"), _VERIFY)
PUBLISHED = (
    Scenario("run, the first night", _RUN, (), (_VERIFY,)),
    Scenario("run, a second night", _RUN, (_RUN, _MORE), (_VERIFY,)),
    Scenario("remove", ("remove", "out", "--ids", "ids.txt"), (_RUN,), _REMOVED),
    Scenario("prune", ("prune", "out", "--keep", "1"), (_RUN, _MORE, _RUN), (_VERIFY,)),
    Scenario("rollback", ("rollback", "out", "--to", "{first}"), (_RUN, _MORE, _RUN), (_VERIFY,)),
)


def write_inputs(folder: Path) -> None:
    """A few pictures with captions and ids as Parquet, CSV and vectors, and a run file over them."""
    (folder / "in").mkdir(parents=True)
    images, names = [], [f"photo-{number}" for number in range(PICTURES)]
    for number, name in enumerate(names):
        stream = io.BytesIO()
        Image.new("RGB", (20, 16), (number * 40, 90, 200 - number * 30)).save(stream, "PNG")
        images.append(stream.getvalue())
        (folder / f"{name}.png").write_bytes(stream.getvalue())
    captions = [[f"a picture called {name}"] for name in names]
    pictures = [{"bytes": image, "path": f"{name}.png"} for image, name in zip(images, names, strict=True)]
    pq.write_table(pa.table({"id": names, "image": pictures, "caption": captions}), folder / "in/a.parquet")
    lines = "".join(f"{name}.png,a picture called {name}\n" for name in names)
    (folder / "captions.csv").write_text(f"image,caption\n{lines}")
    vectors = np.random.default_rng(0).normal(size=(PICTURES, 16)).astype(np.float32)
    np.save(folder / "v.npy", vectors)
    (folder / "ids.txt").write_text("photo-2\n")
    sections = {
        "embed": "input: in",
        "index": "tuning_queries: 3",
        "evaluate": "templates: plain",
        "gates": "max_row_loss: null",
    }
    text = "".join(f"{name}:\n  {body}\n" for name, body in sections.items())
    (folder / "run.yaml").write_text(f"output: out\n{text}")


@dataclass(frozen=True)
class Outcome:
    """How many instants a command has, and what went wrong at which."""

    name: str
    points: int
    tried: int
    faults: list[str]


Trial = Callable[[Sequence[str], Path, int], str]
"""Does something to a command at a change; what is wrong then, empty where nothing is."""


def ended(command: Sequence[str], folder: Path, at: int) -> str:
    """The command ends before a change, and is run again."""
    code, told = run_forked(command, folder, at)
    if code != DIED:
        return f"it ended with {code} before: {told[-200:]}"
    code, told = run_forked(command, folder)
    return f"run again, it ends with {code}: {told[-300:]}" if code else ""


def beside_another(command: Sequence[str], folder: Path, at: int) -> str:
    """The command pauses before a change while another one like it runs; then it goes on."""
    (reached, tell), (wait, go) = os.pipe(), os.pipe()
    first = start(command, folder, at, pause=(tell, wait))
    os.close(tell)
    if not os.read(reached, 1):
        return f"it ended before: {first.wait()[1][-200:]}"
    second = start(command, folder)
    second.ends_within(_PATIENCE)  # it may wait for the first: for a lock, or for its lease
    os.write(go, b".")
    codes = [(code, told[-200:]) for code, told in (first.wait(), second.wait())]
    for end in (reached, wait, go):
        os.close(end)
    fine = sorted(code for code, _ in codes) in ([0, 0], [0, 2])
    return "" if fine else f"the two end with {codes}"


def try_scenario(
    scenario: Scenario, folder: Path, out: str, every: int, trial: Trial, *, overwrite: bool = False
) -> Outcome:
    """Tries the command at every so-manieth change. ``folder`` is empty; it is filled anew for each."""
    template = folder.with_name(f"{folder.name}.template")
    write_inputs(folder)
    for step in (*scenario.prepare, *([_placed(scenario.command, out)] if overwrite else ())):
        _succeed(step, folder)
    runs = folder / "out/runs"
    oldest = min((path.name for path in runs.iterdir()), default="") if runs.exists() else ""
    given = _placed((*scenario.command, *(["--overwrite"] if overwrite else [])), out, oldest)
    proof = [_placed(step, out) for step in scenario.proof]
    shutil.copytree(folder, template, symlinks=True)
    code, counted = run_forked(given, folder, count=True)
    name = f"{scenario.name}{' --overwrite' if overwrite else ''}"
    if code:
        return Outcome(name, 0, 0, [f"{' '.join(given)} ends with {code} undisturbed: {counted[-300:]}"])
    changes, expected = counted.split("\n"), _names(folder)
    faults: list[str] = []
    tried = range(0, len(changes), every)
    for at in tried:
        shutil.rmtree(folder)
        shutil.copytree(template, folder, symlinks=True)
        wrong = trial(given, folder, at) or _wrong_after(proof, folder, expected)
        if wrong:
            faults.append(f"{at} {changes[at]}: {wrong}")
    shutil.rmtree(template)
    shutil.rmtree(folder)
    return Outcome(name, len(changes), len(tried), faults)


def _wrong_after(proof: Sequence[Sequence[str]], folder: Path, expected: set[str]) -> str:
    """What is wrong with what was made; empty where nothing is."""
    for step in proof:
        code, told = run_forked(step, folder)
        if code:
            return f"`clipmill {' '.join(step)}` ends with {code}: {told[-300:]}"
    left = _names(folder) - expected if len(proof) == 1 else set()
    return f"left behind: {sorted(left)[:5]}" if left else ""


def _names(folder: Path) -> set[str]:
    """Files below a folder; those in folders that are named after the time, by what they are in them."""
    names = set()
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file():
            names.add("/".join("VERSION" if part[:2] == "20" and "Z-" in part else part for part in parts))
    return {name if "/part-" not in name else name.rsplit("/part-", 1)[0] for name in names}


def _placed(command: Sequence[str], out: str, first: str = "") -> list[str]:
    return [part.replace("{out}", out).replace("{first}", first) for part in command]


def _succeed(step: Sequence[str], folder: Path) -> None:
    code, told = run_forked(step, folder)
    if code:
        raise RuntimeError(f"clipmill {' '.join(step)} ends with {code}: {told[-500:]}")


@contextmanager
def preloaded() -> Iterator[None]:
    """Imports once what the forks need. Nothing is computed here: threads do not survive a fork."""
    import duckdb  # noqa: F401
    import faiss  # noqa: F401
    import torch

    from clipmill.core.startup import prepare_process

    prepare_process()
    os.environ["CLIPMILL_LOG"] = "text"
    import clipmill.encoders.model
    import clipmill.report.evaluation
    import clipmill.runs.version_run  # noqa: F401

    torch.set_num_threads(1)
    yield


def all_scenarios() -> Iterator[tuple[Scenario, bool]]:
    """Each with whether it is to replace what it made before."""
    for scenario in SCENARIOS:
        yield scenario, False
        yield scenario, True
    for scenario in PUBLISHED:
        yield scenario, False


def try_all(every: int, trial: Trial, only: str | None = None) -> list[Outcome]:
    """Every scenario on a disk."""
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="clipmill-crash-") as scratch:
        for number, (scenario, overwrite) in enumerate(all_scenarios()):
            if only is not None and not scenario.name.startswith(only):
                continue
            began = time.monotonic()
            outcome = try_scenario(scenario, Path(scratch, str(number)), "made", every, trial, overwrite=overwrite)
            outcomes.append(outcome)
            counts = f"{outcome.tried} of {outcome.points} instants, {len(outcome.faults)} not whole afterwards"
            print(f"{outcome.name}: {counts}, {time.monotonic() - began:.0f} s")
            for fault in outcome.faults[:5]:
                print(f"  {fault}")
    return outcomes


def _page(outcomes: Sequence[Outcome], every: int) -> str:
    lines = [
        "# Instants at which commands were ended",
        "",
        f"`make crashes`, {date.today():%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores. Each command was ended right",
        "before every change that it makes to the disk, and then run again: it completed, `clipmill verify` found nothing, and",
        "nothing was left beside its output.",
        "",
        "| command | instants | tried | not whole afterwards |",
        "|---|---|---|---|",
        *(f"| {one.name} | {one.points} | {one.tried} | {len(one.faults)} |" for one in outcomes),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """The exit code: 0 where every command completed after every instant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="try only every so-manieth instant")
    parser.add_argument("--only", help="only commands whose names begin like this")
    parser.add_argument("--pairs", action="store_true", help="run two at once instead of ending one")
    parser.add_argument("--output", type=Path, help="Markdown table to write")
    options = parser.parse_args()
    with preloaded():
        outcomes = try_all(options.every, beside_another if options.pairs else ended, options.only)
    if options.output:
        options.output.write_text(_page(outcomes, options.every))
    return int(any(one.faults for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
