"""What is going on towards an output, seen from outside: from the records in its staging folder, without touching them."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Literal

import pyarrow.fs as fs

from clipmill import storage
from clipmill.storage import Location
from clipmill.storage.lease import Owner, look

Kind = Literal["embeddings", "index", "dataset"]


@dataclass(frozen=True)
class Work:
    """Unfinished work of one plan. ``done`` of ``planned`` units (of rows where embeddings are made) are done; of ``planned``
    None it is not known how many there are. ``doing`` says in words what is next.

    ``started`` is the last start, ``moved`` when something was last written, both UTC; ``rate`` is units a second between
    the two, without what earlier starts did. ``owner`` is None where no run works on it.
    """

    kind: Kind
    output: str
    done: int
    planned: int | None
    unit: str
    doing: str
    started: datetime | None
    moved: datetime | None
    rate: float | None
    owner: Owner | None

    @property
    def running(self) -> bool:
        return self.owner is not None and self.owner.alive

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far, for what is left; None where nothing runs or no rate is known yet."""
        if not self.running or not self.rate or self.planned is None:
            return None
        return (self.planned - self.done) / self.rate

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "running": self.running, "seconds_left": self.seconds_left}


def work_towards(output: Location) -> list[Work]:
    """Unfinished work towards an output, that of each plan; a plan that is worked on has an owner that is alive."""
    parent = storage.staging_of(output)
    by_plan: dict[str, list[fs.FileInfo]] = defaultdict(list)
    for info in storage.list_files(parent):
        token, slash, _ = info.path[len(parent.path) + 1 :].partition("/")
        if slash:
            by_plan[token].append(info)
    owner = look(parent)
    found = [_work(output, parent / token, files, owner) for token, files in sorted(by_plan.items())]
    if not found and owner is not None and owner.alive:
        found.append(Work("dataset", output.uri, 0, None, "rows", "starting", None, None, None, owner))
    return found


def _work(output: Location, folder: Location, files: Sequence[fs.FileInfo], owner: Owner | None) -> Work:
    names = [info.path[len(folder.path) + 1 :] for info in files]
    plan, starts = _json(folder / "plan.json") or {}, _json(folder / "runs.json") or []
    last = starts[-1] if starts else {}
    started = datetime.fromisoformat(last["started"]) if last else None
    moved = max((info.mtime for info in files if info.mtime is not None), default=None)
    reused = 0
    if "cut" in plan:
        kind: Kind = "embeddings"
        done, planned, doing = _rows_done(plan["cut"], last.get("planned", {}), names)
        unit, reused = "rows", int(last.get("rows_reused", 0))
    elif "plan" in plan:
        kind, unit = "index", "steps"
        done, planned, doing = _steps_done(plan["plan"], names)
    else:
        kind, unit, planned, doing = "dataset", "shards", None, "making shards"
        done = _count(names, "shards/", ".json")
    rate = None
    if kind == "embeddings" and started is not None and moved is not None and done > reused:
        seconds = (moved.astimezone(timezone.utc) - started).total_seconds()
        rate = (done - reused) / seconds if seconds > 0 else None
    return Work(kind, output.uri, done, planned, unit, doing, started, moved, rate, owner)


def _rows_done(cut: dict[str, Any], planned: dict[str, int], names: Sequence[str]) -> tuple[int, int, str]:
    """Rows of the units that are done, as if all units were of one size; rows there are; what is next.

    A shard that is made holds its units, and its record tells so when their files are gone.
    """
    rows, units, per_shard = int(cut["rows"]), int(planned.get("units", 0)), int(cut["units a shard"])
    made = {int(_stem(name)) for name in names if name.startswith("shards/") and name.endswith(".json")}
    loose = {int(_stem(name)) for name in names if name.startswith("units/") and name.endswith(".arrow")}
    if not units:
        return 0, rows, "starting"
    in_shards = sum(min(per_shard, units - shard * per_shard) for shard in made)
    done = in_shards + sum(1 for unit in loose if unit // per_shard not in made)
    if done >= units:
        return rows, rows, "publishing"
    return rows * done // units, rows, f"{done:,} of {units:,} units embedded, {len(made):,} shards made"


def _steps_done(plan: dict[str, Any], names: Sequence[str]) -> tuple[int, int, str]:
    """Training, filling each shard, searching each exactly, and tuning are a step each."""
    shards = int(plan["shards"])
    trained, tuned = "trained.json" in names, "operation.npz" in names
    filled, searched = _count(names, "shards/", ".json"), _count(names, "truths/", ".npz")
    done, planned = trained + filled + searched + tuned, 2 * shards + 2
    if not trained:
        return done, planned, "training"
    if filled < shards or searched < shards:
        return done, planned, f"{filled:,} of {shards:,} shards filled, {searched:,} searched exactly"
    return done, planned, "publishing" if tuned else "tuning"


def _count(names: Sequence[str], folder: str, ending: str) -> int:
    return sum(name.startswith(folder) and name.endswith(ending) for name in names)


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(".", 1)[0]


def _json(location: Location) -> Any:
    """None where it is not there, or was caught while it was removed."""
    try:
        return json.loads(storage.read_bytes(location))
    except (OSError, ValueError):
        return None
