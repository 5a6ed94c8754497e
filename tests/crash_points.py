"""Ends every writing command at every change it makes and runs it again; and runs two at once.

    python tests/crash_points.py [--s3] [--pairs] [--every N] [--only NAME …]
    python tests/crash_points.py --page docs/crash_points.md

On a disk a change is a file opened for writing, renamed, linked or deleted, or a folder made or deleted; with ``--s3`` it is a
request that is no GET and no HEAD, to a server on this machine. The command ends right before it, as if the machine had lost
power. The same command then has to complete, `clipmill verify` to find nothing, and nothing to lie beside the output that a
run which nobody disturbed does not leave. Commands run in forks of this process, without Ray.

With ``--pairs`` the command stops before each change instead, the same command runs beside it, and then it goes on: one of
the two makes the dataset, the other is refused or finds it complete, and nothing is lost.

Results are kept in a file, a command at a time, so that they can be gathered in pieces; the page is written from it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from crash_places import OnDisk, OnS3, Place, s3_server
from crash_scenarios import Scenario, scenarios, write_inputs
from forked import DIED, run_forked, start

_PATIENCE = 5.0
RESULTS = Path("docs/crash_points.json")


@dataclass(frozen=True)
class Outcome:
    """How many instants a command has, how many were tried and in how many seconds, and what went wrong at which."""

    name: str
    points: int
    tried: int
    faults: list[str]
    seconds: float


Trial = Callable[[Sequence[str], Place, int], str]
"""Does something to a command at a change; what is wrong then, empty where nothing is."""


def ended(command: Sequence[str], place: Place, at: int) -> str:
    """The command ends before a change, and is run again."""
    code, told = run_forked(command, place.folder, at, watched=place.watched)
    if code != DIED:
        return f"it ended with {code} before: {told[-200:]}"
    code, told = run_forked(command, place.folder)
    return f"run again, it ends with {code}: {told[-300:]}" if code else ""


def beside_another(command: Sequence[str], place: Place, at: int) -> str:
    """The command pauses before a change while another one like it runs; then it goes on."""
    (reached, tell), (wait, go) = os.pipe(), os.pipe()
    first = start(command, place.folder, at, pause=(tell, wait), watched=place.watched)
    os.close(tell)
    if not os.read(reached, 1):
        return f"it ended before: {first.wait()[1][-200:]}"
    second = start(command, place.folder)
    second.ends_within(_PATIENCE)  # it may wait for the first: for a lock, or for its lease
    os.write(go, b".")
    codes = [(code, told[-200:]) for code, told in (first.wait(), second.wait())]
    for end in (reached, wait, go):
        os.close(end)
    fine = sorted(code for code, _ in codes) in ([0, 0], [0, 2])
    return "" if fine else f"the two end with {codes}"


def try_scenario(scenario: Scenario, place: Place, every: int, most: int | None, trial: Trial) -> Outcome:
    """Tries the command at every so-manieth change, and at ``most`` so many. The place is empty; it is filled anew for each."""
    began = time.monotonic()
    write_inputs(place.folder, place.at)
    first = _placed(scenario.command, place)
    for step in (*scenario.prepare, *([first] if scenario.replaces else ())):
        code, told = run_forked(_placed(step, place), place.folder)
        if code:
            raise RuntimeError(f"clipmill {' '.join(step)} ends with {code}: {told[-500:]}")
    oldest = next(iter(place.versions()), "")
    given = _placed((*scenario.command, *(["--overwrite"] if scenario.replaces else [])), place, oldest)
    proof = [_placed(step, place) for step in scenario.proof]
    place.keep()
    code, counted = run_forked(given, place.folder, count=True, watched=place.watched)
    if code:
        return Outcome(scenario.shown, 0, 0, [f"{' '.join(given)} ends with {code} undisturbed: {counted[-300:]}"], 0.0)
    changes, expected = counted.split("\n"), place.names()
    faults: list[str] = []
    tried = spread(len(changes), every, most)
    for at in tried:
        place.restore()
        wrong = trial(given, place, at) or _wrong_after(proof, place, expected)
        if wrong:
            faults.append(f"{at} {changes[at]}: {wrong}")
    place.clear()
    return Outcome(scenario.shown, len(changes), len(tried), faults, time.monotonic() - began)


def spread(count: int, every: int, most: int | None) -> list[int]:
    """Which of so many changes are tried: every so-manieth, and of more than ``most`` the first, the last and some between."""
    every_so = list(range(0, count, every))
    if most is None or most >= len(every_so):
        return every_so
    return sorted({round(at * (count - 1) / max(1, most - 1)) for at in range(most)})


def _wrong_after(proof: Sequence[Sequence[str]], place: Place, expected: set[str]) -> str:
    """What is wrong with what was made; empty where nothing is."""
    for step in proof:
        code, told = run_forked(step, place.folder)
        if code:
            return f"`clipmill {' '.join(step)}` ends with {code}: {told[-300:]}"
    left = place.names() - expected if len(proof) == 1 else set()
    return f"left behind: {sorted(left)[:5]}" if left else ""


def _placed(command: Sequence[str], place: Place, first: str = "") -> list[str]:
    return [part.replace("{at}", place.at).replace("{first}", first) for part in command]


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


def try_all(options: argparse.Namespace) -> Iterator[Outcome]:
    """Every scenario that was asked for, as it is done."""
    trial = beside_another if options.pairs else ended
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clipmill-crash-")))
        client = stack.enter_context(s3_server(scratch)) if options.s3 else None
        for number, scenario in enumerate(scenarios(options.only, large=options.s3)):
            if options.new and scenario.shown in known(options.results).get(table_of(options), {}):
                continue
            folder = scratch / str(number)
            place = OnDisk(folder) if client is None else OnS3(folder, client)
            yield try_scenario(scenario, place, options.every, options.most, trial)


def table_of(options: argparse.Namespace) -> str:
    """The table that results of this kind are for."""
    return f"{'pairs ' * options.pairs}{'s3' if options.s3 else 'disk'}"


def known(results: Path) -> dict[str, dict[str, Any]]:
    """The results that there are, by table and command."""
    found: dict[str, dict[str, Any]] = json.loads(results.read_text()) if results.exists() else {}
    return found


def keep(results: Path, table: str, outcome: Outcome) -> None:
    """Adds one to the file of results; an earlier one of the same command is replaced."""
    before = known(results)
    before.setdefault(table, {})[outcome.name] = asdict(outcome)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(before, indent=1) + "\n")


_TABLES = {
    "disk": ("Ended, on a disk", "Each command was ended right before a change that it makes to the disk."),
    "s3": ("Ended, on S3", "Each command was ended right before a request that changes something (PUT, POST, DELETE)."),
    "pairs disk": (
        "Two at once, on a disk",
        "Each command was stopped before a change, the same command ran beside it, and then it went on: both completed, or "
        "one was refused.",
    ),
    "pairs s3": ("Two at once, on S3", "The same, stopped before requests that change something."),
}


def page(results: Path) -> str:
    """The tables of all results that there are."""
    gathered = known(results)
    lines = [
        "# Instants at which commands were ended",
        "",
        f"`make crashes`, {date.today():%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores. After each instant that was "
        "tried, the same command was run again:",
        "whole means that it completed, `clipmill verify` found nothing, and nothing was left beside its output.",
        "Where fewer were tried than there are (`--every`, `--most`), they are spread evenly over the command.",
    ]
    for table, (title, words) in _TABLES.items():
        found = [Outcome(**one) for one in gathered.get(table, {}).values()]
        if not found:
            continue
        lines += [
            "",
            f"## {title}",
            "",
            words,
            "",
            "| command | instants | tried | whole | s |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {one.name} | {one.points} | {one.tried} | {one.tried - len(one.faults)} | {one.seconds:.0f} |"
            for one in found
        ]
        points, tried = sum(one.points for one in found), sum(one.tried for one in found)
        whole = tried - sum(len(one.faults) for one in found)
        seconds = sum(one.seconds for one in found)
        lines.append(f"| **all** | **{points}** | **{tried}** | **{whole}** | {seconds:.0f} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """The exit code: 0 where every command completed after every instant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="try only every so-manieth instant")
    parser.add_argument("--most", type=int, help="try at most so many instants of each command, spread over it")
    parser.add_argument("--new", action="store_true", help="only commands that the results lack")
    parser.add_argument("--only", nargs="+", default=[], help="only commands whose names begin like one of these")
    parser.add_argument("--pairs", action="store_true", help="run two at once instead of ending one")
    parser.add_argument("--s3", action="store_true", help="towards S3 instead of a disk")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help=f"file of results to add to; {RESULTS} by default"
    )
    parser.add_argument("--page", type=Path, help="write this page from the results, and try nothing")
    options = parser.parse_args()
    if options.page:
        options.page.write_text(page(options.results))
        return 0
    faults = 0
    with preloaded():
        for outcome in try_all(options):
            counts = f"{outcome.tried} of {outcome.points} instants, {len(outcome.faults)} not whole afterwards"
            print(f"{outcome.name}: {counts}, {outcome.seconds:.0f} s", flush=True)
            for fault in outcome.faults[:5]:
                print(f"  {fault}", flush=True)
            faults += len(outcome.faults)
            keep(options.results, table_of(options), outcome)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
