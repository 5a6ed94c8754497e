"""Makes a frozen set of datasets with the code of one version, for the tests of all later versions.

    cd /tmp && PYTHONPATH=CHECKOUT_OF_0.1.0 python /path/to/tests/frozen/make.py v0.1.0.tar.xz

This is run by hand, once a version, with the code of that very version: version 0.1.0 is the one whose packages are called
`pipeline` and `jobs`. The archive and a file `expected.json` beside it, with what this version says about its own
datasets, are then kept with the tests and never made again (see README.md).

Manifests and plans name their input by absolute path and by modification time in nanoseconds. So everything is made at
one neutral place that exists on every machine, PLACE, and has to be unpacked to it again; and the source files have
modification times of whole seconds, which every implementation of tar keeps exactly.

    scenes/             rendered scenes, and a file with two broken pictures and an empty caption
    embeddings/         of scenes/, with thumbnails
    index/              over the images, exact
    caption-index/      over the captions, IVF with PQ codes (fast scan) in two shards
    report/             of embeddings/ and index/
    duplicates/         of the images
    selection/          what is left of them without the duplicates
    nightly/            input of published/
    nightly.yaml        configuration of published/
    published/          two versions; for the second a file was added to nightly/
    third-night/        one more file, which a test may add to nightly/
    more-scenes/        input of unfinished/ and interrupted/, in files that are one unit of work each
    .unfinished.staging what `clipmill embed` left that was killed after some units
    .unfinished-index.staging what `clipmill index` left that was killed after some shards
    interrupted.yaml    configuration of interrupted/
    interrupted/        what `clipmill run` left that was killed while it made its first version

Only one thing is altered after the code of the version has made it: the marks of killed runs say whose they
are, and the name of the machine is replaced there.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PLACE = Path("/tmp/clipmill-frozen")
COMMAND = (sys.executable, "-m", "jobs")
MODIFIED = 1_767_225_600
"""The modification time of all source files, and of the marks of killed runs: the first second of 2026."""

SCENES, NIGHT = 40, 12
UNIT, UNITS = 33, 6
"""A unit holds 64 rows at most, so two row groups of 33 rows never share one."""
INDEX_SHARDS = 8
LEAST_DONE = 2
"""How many units or shards a killed run has to have done; at least as many must be left."""

NIGHTLY = """\
output: {place}/{output}
embed:
  input: {place}/{input}
{thumbnails}index:
  tuning_queries: 50
evaluate:
  bootstrap_samples: 50
  fidelity_queries: 20
  probe: false
gates:
  max_rejects: 20%
"""
EVALUATE = ("--no-probe", "--bootstrap-samples", 50, "--fidelity-queries", 20)
OPTIONS: dict[str, tuple[object, ...]] = {
    "embeddings": ("embed", "--input", PLACE / "scenes", "--thumbnails", 16),
    "index": ("index", "--embeddings", PLACE / "embeddings"),
    "caption-index": (
        *("index", "--embeddings", PLACE / "embeddings", "--gallery", "captions"),
        *("--factory", "IVF4,PQ8x4fsr", "--shards", 2),
    ),
    "report": ("evaluate", "--embeddings", PLACE / "embeddings", "--index", PLACE / "index", *EVALUATE),
    "duplicates": ("dedup", "--embeddings", PLACE / "embeddings", "--threshold", 0.9),
    "selection": ("filter", "--embeddings", PLACE / "embeddings", "--duplicates", PLACE / "duplicates"),
    "unfinished": ("embed", "--input", PLACE / "more-scenes"),
    "unfinished-index": (
        *("index", "--embeddings", PLACE / "embeddings", "--gallery", "captions", "--cpus", 1),
        *("--factory", "IVF4,PQ8x4fsr", "--shards", INDEX_SHARDS),
    ),
}
"""The command that makes each dataset, without --output; written to expected.json, since the tests run them again."""

INDICES = ("index", "caption-index", "published")
TEXTS = (
    "a red circle",
    "two green triangles",
    "a blue star",
    "a large yellow square",
    "a purple circle above a blue square",
    "a small orange triangle",
    "a grey pentagon",
    "three shapes",
    "a black cross to the left of a red ring",
    "a pink heart",
    "a white diamond on stripes",
    "a brown hexagon",
)
SEARCHES, RESULTS = 3, 5
LEAST_GAP = 0.004
"""Between the scores of two neighbours in the results: the order must not depend on the last digits of a vector."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a frozen set of datasets.")
    parser.add_argument(
        "archive", type=Path, help="The archive to write (.tar.xz); expected.json is written beside it."
    )
    archive = parser.parse_args().archive.absolute()
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    make_sources()
    for name, options in OPTIONS.items():
        if not name.startswith("unfinished"):
            clipmill(*options, "--output", PLACE / name)
    publish()
    interrupt()
    neutralise_marks()
    (archive.parent / "expected.json").write_text(json.dumps(expected(), indent=2) + "\n", encoding="utf-8")
    pack(archive)
    print(f"{archive}: {archive.stat().st_size:,} bytes")


def clipmill(*arguments: object) -> str:
    """What a command of this version prints to stdout."""
    command = [*COMMAND, *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=PLACE, stdout=subprocess.PIPE, text=True, check=True).stdout


def document(*arguments: object) -> Any:
    return json.loads(clipmill(*arguments, "--json"))


def make_sources() -> None:
    """All source files, each with the same modification time."""
    clipmill("sample", "--output", PLACE / "scenes", "--rows", SCENES, "--seed", 7, "--image-size", 24)
    made = pq.read_table(PLACE / "scenes")
    write(made.slice(3, 4), PLACE / "scenes/odd.parquet", broken=True)
    shutil.copytree(PLACE / "scenes", PLACE / "nightly")
    # Scenes that no other file holds, to be the nights that follow.
    folder = PLACE / "nights"
    clipmill("sample", "--output", folder, "--rows", 2 * NIGHT, "--seed", 8, "--image-size", 16)
    nights = pq.read_table(folder)
    write(nights.slice(0, NIGHT), PLACE / "second-night/second.parquet")
    write(nights.slice(NIGHT), PLACE / "third-night/third.parquet")
    shutil.rmtree(folder)
    clipmill("sample", "--output", folder, "--rows", UNIT * UNITS, "--seed", 9, "--image-size", 16)
    more = pq.read_table(folder)
    # One caption a picture will do here, and saves space.
    more = more.set_column(2, more.schema.field(2), pc.list_slice(more.column(2), 0, 1)).drop(["negative_caption"])
    for number in range(UNITS):
        write(more.slice(number * UNIT, UNIT), PLACE / f"more-scenes/{number}.parquet")
    shutil.rmtree(folder)
    for file in PLACE.rglob("*.parquet"):
        os.utime(file, (MODIFIED, MODIFIED))


def write(scenes: pa.Table, file: Path, *, broken: bool = False) -> None:
    """Writes a file of scenes; ``broken``: the first two pictures are cut short and no picture at all, and the first
    caption of the third is empty."""
    if broken:
        rows = scenes.to_pylist()
        rows[0]["image"]["bytes"] = rows[0]["image"]["bytes"][:200]
        rows[1]["image"]["bytes"] = b"this is no picture"
        rows[2]["caption"][0] = ""
        for row in rows:
            row["id"] = f"odd-{row['id']}"
        scenes = pa.Table.from_pylist(rows, scenes.schema)
    file.parent.mkdir(exist_ok=True)
    pq.write_table(scenes, file, compression="zstd")


def configuration(name: str, **values: str) -> Path:
    """A file for `clipmill run`."""
    file = PLACE / f"{name}.yaml"
    file.write_text(NIGHTLY.format(place=PLACE, **values), encoding="utf-8")
    return file


def publish() -> None:
    """Two nights, for the second of which a file is added."""
    file = configuration("nightly", output="published", input="nightly", thumbnails="  thumbnails: 16\n")
    clipmill("run", file)
    shutil.move(PLACE / "second-night/second.parquet", PLACE / "nightly/second.parquet")
    (PLACE / "second-night").rmdir()
    clipmill("run", file)


def interrupt() -> None:
    """An `embed`, an `index` and a `run` that are killed when a part of their work is done."""
    for name, most in (("unfinished", UNITS), ("unfinished-index", INDEX_SHARDS)):
        kill((*OPTIONS[name], "--output", PLACE / name), PLACE / name, most - LEAST_DONE)
    file = configuration("interrupted", output="interrupted", input="more-scenes", thumbnails="")
    kill(("run", file), PLACE / "interrupted", UNITS - LEAST_DONE)


def kill(arguments: Sequence[object], output: Path, most: int) -> None:
    """Runs a command and kills it with all its processes when a few parts are done; from the start again where more than
    ``most`` were done by then."""
    for _ in range(30):
        for left in (output, staging_of(output)):
            shutil.rmtree(left, ignore_errors=True)
        staging_of(output).with_suffix(".staging.owner.json").unlink(missing_ok=True)
        command = [*COMMAND, *(str(argument) for argument in arguments)]
        run = subprocess.Popen(command, cwd=PLACE, start_new_session=True)
        while run.poll() is None and parts_done(output) < LEAST_DONE:
            time.sleep(0.001)
        kill_all(run.pid)
        run.wait()
        time.sleep(2)
        if LEAST_DONE <= parts_done(output) <= most:
            return
        print(f"{output}: {parts_done(output)} parts were done, try again", file=sys.stderr)
    raise SystemExit(f"{output}: the run could not be killed in time")


def kill_all(root: int) -> None:
    """Kills a process and all its descendants, stopped first so that none of them starts another."""
    for how in (signal.SIGSTOP, signal.SIGKILL):
        for process in [root, *descendants(root)]:
            with suppress(ProcessLookupError):
                os.kill(process, how)


def descendants(root: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines()[1:]:
        process, parent = map(int, line.split())
        children.setdefault(parent, []).append(process)
    found, left = [], [root]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def staging_of(output: Path) -> Path:
    return output.with_name(f".{output.name}.staging")


def parts_done(output: Path) -> int:
    """Units of embeddings and shards of an index that are done towards an output, or towards a version there."""
    places = [place for place in (output, staging_of(output)) if place.exists()]
    return sum(len([*place.rglob("units/*/*.arrow"), *place.rglob("shards/*.json")]) for place in places)


def neutralise_marks() -> None:
    """The marks of the killed runs, as if another machine had written them long ago."""
    for mark in PLACE.rglob("*.owner.json"):
        statement = json.loads(mark.read_text())
        statement |= {"host": "another-machine", "system": "another-boot", "renewed": float(MODIFIED)}
        mark.write_text(json.dumps(statement))
        os.utime(mark, (MODIFIED, MODIFIED))


def expected() -> dict[str, Any]:
    """What this version says about its datasets."""
    manifests = {
        name: json.loads((PLACE / name / "manifest.json").read_text())
        for name in ("embeddings", "index", "caption-index", "duplicates", "selection")
    }
    report = json.loads((PLACE / "report/report.json").read_text())
    versions = document("versions", PLACE / "published")
    kept = ("name", "base", "counts", "rows_encoded", "rows_reused")
    return {
        "software": manifests["embeddings"]["software"],
        "place": str(PLACE),
        "commands": {name: [str(option) for option in options] for name, options in OPTIONS.items()},
        "counts": manifests["embeddings"]["counts"],
        "indices": {
            name: {key: manifests[name][key] for key in ("n", "gallery", "factory", "shards", "exact")}
            for name in ("index", "caption-index")
        },
        "duplicates": {key: manifests["duplicates"][key] for key in ("n", "pairs", "groups", "rows_dropped")},
        "selection": {key: manifests["selection"][key] for key in ("rows", "kept", "dropped", "dropped_by_reason")},
        "report": {"schema_version": report["schema_version"], "counts": report["dataset"]["counts"]},
        "searches": {name: searches(name) for name in INDICES},
        "published": {
            "current": versions["current"],
            "versions": [{key: version[key] for key in kept} for version in versions["versions"]],
        },
        "third_night_rows": pq.read_metadata(PLACE / "third-night/third.parquet").num_rows,
        "unfinished": unfinished("unfinished"),
        "unfinished-index": {
            "shards": INDEX_SHARDS,
            "shards_done": parts_done(PLACE / "unfinished-index"),
            "rows": manifests["caption-index"]["n"],
        },
        "interrupted": unfinished("interrupted"),
    }


def searches(name: str) -> list[dict[str, Any]]:
    """The first few texts whose results are clearly apart, with these results."""
    found: list[dict[str, Any]] = []
    for text in TEXTS:
        results = document("search", "--index", PLACE / name, "--text", text, "-k", RESULTS + 1)["results"]
        scores = [result["score"] for result in results]
        if all(one - other >= LEAST_GAP for one, other in itertools.pairwise(scores)):
            keys = ("row", "id", "score")
            found.append({"text": text, "results": [{key: one[key] for key in keys} for one in results[:RESULTS]]})
        if len(found) == SEARCHES:
            return found
    raise SystemExit(f"{name}: only {len(found)} texts have results that are clearly apart")


def unfinished(name: str) -> dict[str, int]:
    done = parts_done(PLACE / name)
    return {"rows": UNIT * UNITS, "units": UNITS, "units_done": done, "rows_done": UNIT * done}


def pack(archive: Path) -> None:
    """Everything at PLACE, with relative names; files that share their bytes by a hard link do so in the archive too."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime = int(info.mtime)
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(archive, "w:xz", format=tarfile.PAX_FORMAT, preset=9) as tar:
        for path in sorted(PLACE.iterdir()):
            tar.add(path, path.name, filter=plain)


if __name__ == "__main__":
    main()
