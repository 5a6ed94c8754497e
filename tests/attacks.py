"""Bad inputs through the commands alone, by class: how many are survived by this checkout, and by others beside it.

    python tests/attacks.py --beside PATH_OF_AN_OLDER_CHECKOUT

Each attack makes its input in a folder of its own and runs one command there. It is survived where the command ends in time and
within 1.5 GB, without a traceback, and where what the attack was after did not happen.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from attack_inputs import (
    SECRET,
    bytes_of,
    coco_outside,
    coco_that_is_deep,
    csv_outside,
    derived_ids,
    dictionary,
    embedded,
    files_of_two_types,
    forged_shards,
    forged_unfinished,
    headers_without_end,
    index_without_captions,
    link_in_a_circle,
    link_outside,
    link_to_nowhere,
    long_word,
    metadata_of_one_value,
    nothing,
    parquet_outside,
    pipe,
    pipe_alone,
    presigned,
    published,
    sparse_tar,
    tar_of_zeros,
    vectors_without_texts,
    wide_png,
)

MOST_BYTES = 1_500_000_000
_SECONDS = 120.0
Prepare = Callable[[Path, "Runner"], None]


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code (None where it took too long), what it said, and its most memory in bytes."""

    code: int | None
    said: str
    peak: int


@dataclass(frozen=True)
class Runner:
    """Runs commands of a checkout."""

    checkout: Path

    def run(self, arguments: Sequence[str], folder: Path, seconds: float = _SECONDS) -> Done:
        """One command, in ``folder``."""
        roots = os.pathsep.join(str(self.checkout / root) for root in ("pipeline", "jobs"))
        environment = {**os.environ, "PYTHONPATH": roots, "HOME": str(folder)}
        command = [sys.executable, "-m", "clipmill_jobs", *arguments]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        measured = [sys.executable, "-c", _MEASURE, *command]
        running = subprocess.Popen(
            measured,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, errors = running.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate()
            return Done(None, "", before)
        said, _, peak = errors.rpartition("\npeak ")
        return Done(running.returncode, out + said, int(peak or 0))


_MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(f"\\npeak {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024}", file=sys.stderr, end="")
sys.exit(code if code >= 0 else 128 - code)
"""


@dataclass(frozen=True)
class Attack:
    """Of a ``kind``. ``prepare`` makes the input, ``held`` says whether what it was after did not happen."""

    kind: str
    name: str
    prepare: Prepare
    command: tuple[str, ...]
    held: Callable[[Path, Done], bool]
    seconds: float = _SECONDS
    """In which the command has to end."""


def refused(folder: Path, done: Done) -> bool:
    """Whether the command says no, by the exit code of a mistake or of a failure."""
    return done.code in (1, 2)


def completed(folder: Path, done: Done) -> bool:
    """Whether it is done all the same."""
    return done.code == 0


def leaves_nothing_of_the_secret(folder: Path, done: Done) -> bool:
    """Whether neither what was said nor any file that was written holds it; the input, in ``in``, does."""
    written = bytes_of(folder / "out") + bytes_of(folder / ".out.staging") + done.said.encode()
    return done.code in (0, 1, 2, 3) and SECRET.encode() not in written


def _says(word: str) -> Callable[[Path, Done], bool]:
    return lambda folder, done: done.code in (1, 2) and word in done.said


def _kept(name: str) -> Callable[[Path, Done], bool]:
    return lambda folder, done: (folder / name).exists()


def _nothing_recorded(folder: Path, done: Done) -> bool:
    return done.code == 2 and not (folder / "out/removed.json").exists()


def _promises_nothing(folder: Path, done: Done) -> bool:
    return json.loads((folder / "out/manifest.json").read_text())["target_met"] is None


def _ceiling_is_not_beaten(folder: Path, done: Done) -> bool:
    return done.code == 0 and "no model could" not in done.said


def _only_the_number(folder: Path, done: Done) -> bool:
    kept = [pq.read_table(file).num_rows for file in (folder / "out/kept").glob("*.parquet")]
    return done.code == 0 and sum(kept) == 1


_EMBED = ("embed", "--input", "in", "--output", "out")
_CSV = ("import", "csv", "in/captions.csv", "--output", "out")
_TAR = ("import", "webdataset", "in", "--output", "out")
_VECTORS = ("import", "vectors", "--images", "images.npy", "--metadata", "m.parquet", "--output", "out")
_FILTER = ("filter", "--embeddings", "e", "--output", "out", "--where")
ATTACKS = (
    Attack("what is there", "a link to nowhere", link_to_nowhere, _EMBED, refused),
    Attack("what is there", "a link in a circle", link_in_a_circle, _EMBED, refused),
    Attack("what is there", "a pipe", pipe, _EMBED, refused),
    Attack("what is there", "nothing but a pipe", pipe_alone, _EMBED, _says("pipe")),
    Attack("values", "uint64 beside int64", files_of_two_types("uint64"), _EMBED, refused),
    Attack("values", "whole numbers beside fractions", files_of_two_types("int64"), _EMBED, refused),
    Attack("values", "seconds beside nanoseconds", files_of_two_types("timestamp"), _EMBED, refused),
    Attack("values", "decimal beside binary fractions", files_of_two_types("decimal"), _EMBED, refused),
    Attack(
        "takedown", "an id that is not there", published, ("remove", "out", "--ids", "unknown.txt"), _nothing_recorded
    ),
    Attack(
        "takedown", "an id of file and row", derived_ids, ("remove", "out", "--ids", "derived.txt"), _nothing_recorded
    ),
    Attack("confinement", "CSV", csv_outside, _CSV, leaves_nothing_of_the_secret),
    Attack(
        "confinement", "COCO", coco_outside, ("import", "coco", "in", "--output", "out"), leaves_nothing_of_the_secret
    ),
    Attack("confinement", "Parquet", parquet_outside, _EMBED, leaves_nothing_of_the_secret),
    Attack(
        "confinement",
        "a link",
        link_outside,
        ("import", "folder", "in", "--output", "out"),
        leaves_nothing_of_the_secret,
    ),
    Attack("confinement", "shards.parquet", forged_shards, ("verify", "e"), refused),
    Attack("confinement", "unfinished.json", forged_unfinished, ("run", "run.yaml"), _kept("victim/kept.txt")),
    Attack("secrets", "a presigned address", presigned, _EMBED, leaves_nothing_of_the_secret),
    Attack(
        "secrets",
        "one slash",
        nothing,
        ("embed", "--input", f"s3:/KEY:{SECRET}@bucket/x", "--output", "out"),
        leaves_nothing_of_the_secret,
    ),
    Attack(
        "secrets",
        "JSON log",
        nothing,
        ("embed", "--input", f"s3://KEY:{SECRET}@bucket/x", "--output", "out", "--log-json"),
        leaves_nothing_of_the_secret,
    ),
    Attack("bombs", "a dictionary of 1.9 GB", dictionary, _EMBED, completed),
    Attack("bombs", "a 16-bit PNG", wide_png, _EMBED, completed),
    Attack("bombs", "headers of millions of parts", headers_without_end, _EMBED, completed, seconds=60),
    Attack("bombs", "metadata of one value", metadata_of_one_value, _VECTORS, refused),
    Attack("bombs", "a tar of zeros", tar_of_zeros, _TAR, refused),
    Attack("bombs", "a sparse tar", sparse_tar, _TAR, refused),
    Attack("bombs", "a long word", long_word, _EMBED, completed),
    Attack("bombs", "repeat() in --where", embedded, (*_FILTER, "length(repeat('x', 3000000000)) > 1"), refused),
    Attack("bombs", "pg_sleep() in --where", embedded, (*_FILTER, "pg_sleep(3000) is null"), refused),
    Attack(
        "sentences",
        "a condition that closes its bracket",
        embedded,
        (*_FILTER, "true) FROM rows; SELECT (true"),
        refused,
    ),
    Attack("sentences", "JSON nested deeply", coco_that_is_deep, ("import", "coco", "in", "--output", "out"), refused),
    Attack("numbers", "NaN above one", embedded, (*_FILTER, "score > 1"), _only_the_number),
    Attack(
        "numbers",
        "an index without captions",
        index_without_captions,
        ("index", "--embeddings", "e", "--output", "out"),
        _promises_nothing,
    ),
    Attack(
        "numbers",
        "captions that nobody knows",
        vectors_without_texts,
        ("evaluate", "--embeddings", "e", "--output", "out"),
        _ceiling_is_not_beaten,
    ),
)


def survives(attack: Attack, runner: Runner) -> str:
    """Why a checkout does not survive; empty where it does."""
    with tempfile.TemporaryDirectory(prefix="clipmill-attack-") as scratch:
        folder = Path(scratch, "here")
        folder.mkdir()
        try:
            attack.prepare(folder, runner)
        except AssertionError:
            return "a command that makes the input failed"
        done = runner.run(attack.command, folder, attack.seconds)
        if done.code is None:
            return f"more than {attack.seconds:.0f} s"
        if "Traceback (most recent call last)" in done.said:
            return "a traceback"
        if done.peak > MOST_BYTES:
            return f"{done.peak / 1e9:.1f} GB"
        try:
            return "" if attack.held(folder, done) else f"exit code {done.code}: {' '.join(done.said.split())[-150:]}"
        except (OSError, KeyError, ValueError) as error:
            return f"{type(error).__name__}: {error}"


def main() -> int:
    """The exit code: 0 where this checkout survives all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, action="append", default=[], help="another checkout to try too")
    parser.add_argument("--only", default="", help="only attacks of classes whose names begin like this")
    options = parser.parse_args()
    runners = [Runner(Path(__file__).parents[1]), *(Runner(path.resolve()) for path in options.beside)]
    tried: Counter[str] = Counter()
    survived = [Counter[str]() for _ in runners]
    for attack in ATTACKS:
        if not attack.kind.startswith(options.only):
            continue
        tried[attack.kind] += 1
        for runner, counter in zip(runners, survived, strict=True):
            wrong = survives(attack, runner)
            counter[attack.kind] += not wrong
            print(
                f"{attack.kind}: {attack.name}: {wrong or 'survived'} ({runner.checkout})", file=sys.stderr, flush=True
            )
    heads = " | ".join(["this checkout", *(f"`{path.name}`" for path in options.beside)])
    print(f"| class | tried | {heads} |\n|---|---|{'---|' * len(runners)}")
    for kind, count in tried.items():
        print(f"| {kind} | {count} | {' | '.join(str(counter[kind]) for counter in survived)} |")
    return int(survived[0].total() < tried.total())


if __name__ == "__main__":
    sys.exit(main())
