"""What a GPU does with clipmill, in minutes, on a machine with one GPU, torch and no network.

    make gpu                                       on a machine with a GPU: all parts, the table into docs/gpu.md
    python -m benchmarks.gpu --only bare --output gpu.json
    python -m benchmarks.gpu --device cpu --smoke  the same code with tiny sizes on a CPU, to try it

Parts run in the order of their worth, each in a process of its own with a limit of time, so that one which fails or hangs
does not cost the others; what they found is in the output after each. Pictures are rendered and weights are random: they
take as long as real ones.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import PARTS, Bench

_LIMIT_SECONDS = 75.0
"""Of a part; most take less than 40 s."""
_TOLD = "## What a GPU does where it is asked for"


def run_part(name: str, bench: Bench) -> dict[str, Any]:
    """The figures of a part, or what it failed with."""
    began = time.perf_counter()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, bench, sending))
    process.start()
    sending.close()
    found: dict[str, Any] = {"failed": f"it took longer than {bench.limit:g} s"}
    if receiving.poll(bench.limit):
        try:
            found = receiving.recv()
        except EOFError:
            process.join()
            found = {"failed": f"its process ended with {process.exitcode}"}
    else:
        _end(process.pid)
    process.join(10)
    return {**found, "seconds": round(time.perf_counter() - began, 1)}


def _work(name: str, bench: Bench, sending: Any) -> None:
    os.setpgrp()  # so that what it starts ends with it
    try:
        found = PARTS[name](bench)
    except BaseException as error:
        found = {"failed": f"{type(error).__name__}: {error}"[:2000], "where": traceback.format_exc()[-1500:]}
    sending.send(found)


def _end(group: int | None) -> None:
    if group:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def page(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: a table a part, one row a figure."""
    facts = results.get("facts", {})
    lines = [
        "# On a GPU",
        "",
        f"`make gpu`, {date.today():%Y-%m-%d}: {facts.get('gpu', 'no GPU')}, {facts.get('cores', '?')} cores, torch "
        f"{facts.get('torch', '?')}, driver {facts.get('driver', '?')}. Rendered JPEGs of 500 × 375, random weights.",
    ]
    for name, found in results.items():
        lines += ["", f"## {name}", "", "| figure | |", "|---|---|"]
        for key, value in _flat(found):
            lines.append(f"| {key} | {_shown(value)} |")
    return "\n".join(lines) + "\n"


def write_page(place: Path, results: dict[str, dict[str, Any]]) -> None:
    """The tables in the place of those that a page has; what it tells from `_TOLD` on stays."""
    before = place.read_text() if place.exists() else ""
    told = before[before.index(_TOLD) :] if _TOLD in before else ""
    place.write_text(page(results) + ("\n" + told if told else ""))


def _flat(found: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in found.items():
        if key == "where":
            continue
        rows += _flat(value, f"{before}{key}, ") if isinstance(value, dict) else [(before + key, value)]
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return " ".join(str(value).split())[:200].replace("|", "/")


def main() -> int:
    """The exit code: 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to try the code")
    parser.add_argument("--only", action="append", choices=tuple(PARTS), help="only this part; may be repeated")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="JSON, written after each part")
    parser.add_argument("--page", type=Path, help="Markdown to write at the end")
    parser.add_argument("--limit", type=float, default=_LIMIT_SECONDS, help="seconds for each part")
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="clipmill-gpu-") as folder:
        bench = Bench(Path(folder), options.device, options.smoke, options.limit)
        for name in options.only or PARTS:
            results[name] = run_part(name, bench)
            options.output.write_text(json.dumps(results, indent=1))
            print(f"{name}: {json.dumps(results[name])}", flush=True)
    print(page(results))
    if options.page:
        write_page(options.page, results)
    return int(any("failed" in found for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
