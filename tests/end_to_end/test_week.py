"""A week of nights by the schedule's own command line, over an input that grows, shrinks, changes and rots.

Every night a run ends as it should, readers find a complete version, and rows are encoded in proportion to what changed.
The nights build on each other: their order matters.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from clipmill.encoders.names import BUILTIN_FOLDER

pytestmark = pytest.mark.long
CONFIG = """\
output: {output}
embed:
  input: {input}
  thumbnails: 32
  pretrained: local-dir:{weights}
index:
  tuning_queries: 50
evaluate:
  bootstrap_samples: 50
  fidelity_queries: 20
  probe: false
gates:
  min_t2i_recall_at_10: 0.05
  max_t2i_drop: 0.5
  max_rejects: 5%
  min_index_recall: 0.9
  max_row_change: 30%
"""
FILE_ROWS = 50


class Week:
    """The input, the configuration and the output, which stay from night to night."""

    def __init__(self, folder: Path, clipmill: Callable) -> None:
        self.folder, self._clipmill = folder, clipmill
        self.input, self.output, self.weights = folder / "input", folder / "output", folder / "weights"
        self.config = folder / "nightly.yaml"
        self.config.write_text(CONFIG.format(output=self.output, input=self.input, weights=self.weights))
        shutil.copytree(BUILTIN_FOLDER, self.weights)
        self.input.mkdir()
        assert clipmill("sample", "--output", folder / "scenes", "--rows", 500, "--seed", 11).code == 0
        self._scenes = pq.read_table(folder / "scenes/part-00000.parquet")
        self._next = 0

    def add(self, name: str, rows: int = FILE_ROWS, *, rotten: bool = False) -> list[str]:
        """Puts so many new scenes into a file of the input; their ids."""
        scenes = self._scenes.slice(self._next, rows)
        self._next += rows
        if rotten:
            broken = [image[: len(image) // 2] for image in _bytes_of(scenes)]
            at = scenes.schema.get_field_index("image")
            scenes = scenes.set_column(at, scenes.schema.field(at), [_like(scenes.column("image"), broken)])
        pq.write_table(scenes, self.input / f"{name}.parquet")
        ids: list[str] = scenes.column("id").to_pylist()
        return ids

    def start(self, *options: object) -> subprocess.Popen:
        command = [sys.executable, "-m", "clipmill_jobs", "run", str(self.config), *map(str, options)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def run(self, code: int = 0) -> Any:
        done = self._clipmill("run", self.config)
        assert done.code == code, done.out + done.err
        return done

    def command(self, name: str, *options: object, code: int = 0) -> Any:
        done = self._clipmill(name, self.output, *options)
        assert done.code == code, done.out + done.err
        return done

    @property
    def owner(self) -> int:
        """The process that the mark of the output names."""
        process: int = json.loads((self.output / "run.owner.json").read_text())["process"]
        return process

    @property
    def current(self) -> str:
        name: str = json.loads((self.output / "current.json").read_text())["version"]
        return name

    @property
    def version(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "runs" / self.current / "version.json").read_text())
        return found

    def ids(self, part: str = "images") -> set[str]:
        """Those of the current version."""
        folder = self.output / "runs" / self.current / "embeddings" / part
        return {identifier for file in folder.glob("*.parquet") for identifier in pq.read_table(file)["id"].to_pylist()}

    def check(self, present: set[str]) -> None:
        """Readers find a whole version that holds exactly these rows, by file and by search."""
        self.command("verify")
        assert self.ids() == present
        some = sorted(present)[len(present) // 2]
        found = self._clipmill("search", "--index", self.output, "--id", some, "-k", 3, "--json")
        assert found.code == 0, found.err
        results = found.document["results"]
        assert results[0]["id"] == some
        assert results[0]["score"] == pytest.approx(1, abs=2e-3)
        assert {result["id"] for result in results} <= present


def _bytes_of(scenes: Any) -> list[bytes]:
    return [value["bytes"] if isinstance(value, dict) else value for value in scenes.column("image").to_pylist()]


def _like(column: Any, values: list[bytes]) -> Any:
    import pyarrow as pa

    is_struct = pa.types.is_struct(column.type)
    return pa.array([{"bytes": value} if is_struct else value for value in values], column.type)


@pytest.fixture(scope="module")
def week(clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> Week:
    return Week(tmp_path_factory.mktemp("week"), clipmill)


def wait_for(true: Callable[[], bool], run: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_seven_nights(week: Week, clipmill: Callable) -> None:
    # Monday: everything is new
    ids = {name: set(week.add(name)) for name in "abcde"}
    week.run()
    assert (week.version["rows_encoded"], week.version["counts"]["rows"]) == (250, 250)
    week.check(set().union(*ids.values()))

    # Tuesday: two rows in a hundred are new, and as many are encoded
    ids["f"] = set(week.add("f", 5))
    out = week.run().out
    assert "5 of 255 rows encoded" in out
    assert "the index keeps its training" in out
    assert (week.version["rows_encoded"], week.version["rows_reused"]) == (5, 250)
    week.check(set().union(*ids.values()))
    tuesday = week.current

    # Wednesday: the run is killed when the embeddings are there; readers have Tuesday's
    before = set().union(*ids.values())
    ids["g"] = set(week.add("g"))
    run = week.start()
    wait_for(lambda: len(list(week.output.glob("runs/*/embeddings/manifest.json"))) == 3, run)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    assert week.current == tuesday
    week.check(before)

    # … it is started again and goes on; another run meanwhile leaves, and one that waits finds nothing to do
    half = {path: path.stat().st_ino for path in week.output.glob("runs/*/embeddings/manifest.json")}
    run = week.start()
    wait_for(lambda: week.owner == run.pid, run)
    os.kill(run.pid, signal.SIGSTOP)  # so that it cannot be done before the others have looked
    leaves = week.run(code=2)
    assert f"another run (process {run.pid} on " in leaves.err
    assert "--wait SECONDS" in leaves.err
    waits = week.start("--wait", 300)
    assert waits.stderr is not None
    assert any("waiting up to 300 s: another run" in line for line in iter(waits.stderr.readline, ""))
    os.kill(run.pid, signal.SIGCONT)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert "50 of 305 rows encoded" in out
    out, err = waits.communicate(timeout=300)
    assert waits.returncode == 0, err
    assert out.startswith("unchanged"), out + err
    assert {path: path.stat().st_ino for path in half} == half, "nothing that was done is done again"
    assert (week.version["rows_encoded"], week.version["base"]) == (50, tuesday)
    week.check(set().union(*ids.values()))

    # Thursday: one file is another, one is gone
    ids["b"] = set(week.add("b", 45))
    (week.input / "c.parquet").unlink()
    del ids["c"]
    out = week.run().out
    assert "1 files new or changed, 2 gone, 5 as before" in out
    assert (week.version["rows_encoded"], week.version["counts"]["rows"]) == (45, 250)
    week.check(set().union(*ids.values()))
    thursday = week.current

    # Friday: what is new is rotten, and a bar says so
    week.add("h", 20, rotten=True)
    missed = week.run(code=3)
    assert "rejects is 20 of 120 new images and captions (16.67%), and should be at most 0.05 of them" in missed.err
    assert "11.67% too many; nothing was published" in missed.err
    assert week.current == thursday
    week.check(set().union(*ids.values()))

    # Saturday: it was mended, and one id has to go
    ids["h"] = set(week.add("h", 20))
    gone = min(ids["a"])
    (week.folder / "takedown.txt").write_text(f"{gone}\n")
    week.command("remove", "--ids", week.folder / "takedown.txt")
    week.run()
    assert (week.version["rows_encoded"], week.version["rows_reused"]) == (20, 250)
    ids["a"].remove(gone)
    week.check(set().union(*ids.values()))
    assert gone not in week.ids("captions")
    saturday = week.current

    # Sunday: another model. All rows are encoded, and what was taken down does not come back
    weights = week.weights / "open_clip_model.safetensors"
    moved = load_file(weights)
    rng = np.random.default_rng(0)
    largest = max((name for name in moved if moved[name].ndim == 2), key=lambda name: moved[name].size)
    noise = rng.standard_normal(moved[largest].shape).astype(np.float32) * 1e-3
    moved[largest] = (moved[largest].astype(np.float32) + noise).astype(moved[largest].dtype)
    save_file(moved, weights)
    out = week.run().out
    assert "all rows were encoded: the model is another (weights_sha256)" in out
    assert (week.version["rows_encoded"], week.version["rows_reused"]) == (270, 0)
    week.check(set().union(*ids.values()))
    sunday = week.current

    # … which nobody likes: Saturday's is read again, and old versions go
    before_files = {path: path.stat().st_mtime_ns for path in week.output.rglob("*") if path.is_file()}
    week.command("rollback")
    after_files = {path: path.stat().st_mtime_ns for path in week.output.rglob("*") if path.is_file()}
    changed = {path.name for path in before_files if before_files[path] != after_files.get(path)}
    assert (changed, before_files.keys()) == ({"current.json"}, after_files.keys())
    assert week.current == saturday
    week.command("prune", "--keep", 5)
    listed = week.command("versions", "--json").document
    assert [version["name"] for version in listed["versions"]] == [saturday, sunday]
    assert {path.name for path in (week.output / "runs").iterdir()} == {saturday, sunday}
    found = clipmill(
        "search",
        "--index",
        week.output,
        "--text",
        "a red circle",
        "-k",
        3,
        "--pretrained",
        f"local-dir:{BUILTIN_FOLDER}",
    )
    assert found.code == 0, found.err
    assert gone not in found.out
